"""Medians of rounds and of paired rounds, with bootstrap intervals. Light: only numpy.

Shapes: D draws, P processes, R rounds per process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BOOTSTRAP_DRAWS = 1000
PERCENTILES = (2.5, 97.5)
"""95 % of the drawn medians lie between them."""


@dataclass(frozen=True)
class Interval:
    """A median, or a mean of medians, with its 95 % interval."""

    median: float
    low: float
    high: float
    rounds: int

    @property
    def relative_half_width(self) -> float:
        """Half of the interval's width, as a share of the median."""
        return (self.high - self.low) / 2 / self.median

    def inverse(self) -> Interval:
        """Its inverse: for a ratio of times, the speed-up."""
        return Interval(1.0 / self.median, 1.0 / self.high, 1.0 / self.low, self.rounds)


def median_interval(values: npt.ArrayLike, seed: int = 0) -> Interval:
    """The median of rounds and its bootstrap interval.

    Args:
        values: one number per round, shape (rounds,).
        seed: seed of the draws.
    """
    rounds = np.asarray(values, np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(rounds), (BOOTSTRAP_DRAWS, len(rounds)))
    low, high = np.percentile(np.median(rounds[drawn], axis=1), PERCENTILES)
    return Interval(float(np.median(rounds)), float(low), float(high), len(rounds))


def ratio_interval(
    times: Sequence[Sequence[float]], numerator: Sequence[int], denominator: Sequence[int], seed: int = 0
) -> Interval:
    """The median over rounds of one sum of times over another, with its bootstrap interval.

    Both sums of a round come from the same round, so a slow spell of the machine cancels out.

    Args:
        times: one list per call, one number per round; position i is round i for all of them.
        numerator: numbers of the calls to sum above; one that counts twice is listed twice.
        denominator: numbers of the calls to sum below.
        seed: seed of the draws.
    """
    above, below = (np.sum([times[call] for call in calls], axis=0) for calls in (numerator, denominator))
    return median_interval(above / below, seed)


def process_ratio(above: Sequence[Sequence[float]], below: Sequence[Sequence[float]], seed: int = 0) -> Interval:
    """One call's median over another's: the mean over processes, with an interval for both sources of variation.

    Processes are resampled, and the rounds of each, as pairs: what slows both calls of a round cancels out, and a
    process's own bias does not count once per round. For a single process, only rounds are resampled.

    Args:
        above: one list per process, one number per round.
        below: the same for the other call.
        seed: seed of the draws.
    """
    generator = np.random.default_rng(seed)
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(above, below, strict=True)]
    drawn_PD = np.empty((len(pairs), BOOTSTRAP_DRAWS))
    for number, (above_R, below_R) in enumerate(pairs):
        rounds_DR = generator.integers(0, len(above_R), (BOOTSTRAP_DRAWS, len(above_R)))
        drawn_PD[number] = np.median(above_R[rounds_DR], axis=1) / np.median(below_R[rounds_DR], axis=1)
    processes_DP = generator.integers(0, len(pairs), (BOOTSTRAP_DRAWS, len(pairs)))
    draws_DP = generator.integers(0, BOOTSTRAP_DRAWS, processes_DP.shape)
    low, high = np.percentile(drawn_PD[processes_DP, draws_DP].mean(axis=1), PERCENTILES)
    middle = np.mean([np.median(above_R) / np.median(below_R) for above_R, below_R in pairs])
    return Interval(float(middle), float(low), float(high), sum(len(above_R) for above_R, _ in pairs))
