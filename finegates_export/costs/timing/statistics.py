"""Medians of rounds and of paired rounds, with bootstrap intervals. Light: numpy alone.

Shapes: D draws, P processes, R rounds of a process.
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
    """A median, or a mean of medians, and where it would lie in 95 of 100 repetitions."""

    median: float
    low: float
    high: float
    rounds: int

    @property
    def relative_half_width(self) -> float:
        """Half of the interval's width, as a share of the median."""
        return (self.high - self.low) / 2 / self.median

    def inverse(self) -> Interval:
        """One over it: of a ratio of times, the speed-up."""
        return Interval(1.0 / self.median, 1.0 / self.high, 1.0 / self.low, self.rounds)


def median_interval(values: npt.ArrayLike, seed: int = 0) -> Interval:
    """The median of rounds and its bootstrap interval.

    Args:
        values: one number a round, shape (rounds,).
        seed: of the draws.
    """
    rounds = np.asarray(values, np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(rounds), (BOOTSTRAP_DRAWS, len(rounds)))
    low, high = np.percentile(np.median(rounds[drawn], axis=1), PERCENTILES)
    return Interval(float(np.median(rounds)), float(low), float(high), len(rounds))


def ratio_interval(
    times: Sequence[Sequence[float]], numerator: Sequence[int], denominator: Sequence[int], seed: int = 0
) -> Interval:
    """The median over rounds of one sum of times over another, with its bootstrap interval.

    Both sums of a round come from the same round, so what slows the machine for a while cancels out.

    Args:
        times: one list a call, one number a round; position i is round i for all of them.
        numerator: the calls whose times are added above, by number; one that counts twice is named twice.
        denominator: the calls whose times are added below.
        seed: of the draws.
    """
    above, below = (np.sum([times[call] for call in calls], axis=0) for calls in (numerator, denominator))
    return median_interval(above / below, seed)


def process_ratio(above: Sequence[Sequence[float]], below: Sequence[Sequence[float]], seed: int = 0) -> Interval:
    """One call's median over another's: the mean over processes, with an interval that knows both sources of chance.

    Processes are drawn, and of each its rounds, as pairs: what slows both calls of a round cancels out, and what one
    process has of its own does not count as often as it has rounds. Of a single process only the rounds are drawn.

    Args:
        above: one list a process, one number a round.
        below: the other call's, of the same rounds.
        seed: of the draws.
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
