"""Medians of rounds and of paired rounds, with bootstrap intervals. Light: numpy alone."""

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
    """A median and where it would lie in 95 of 100 repetitions."""

    median: float
    low: float
    high: float
    rounds: int

    @property
    def relative_half_width(self) -> float:
        """Half of the interval's width, as a share of the median."""
        return (self.high - self.low) / 2 / self.median


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
