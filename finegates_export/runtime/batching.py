"""Which rows go through the model together, and how long they are made: every padded token is computed too.

Shapes: N rows, sorted by length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from finegates_export.common.options import check

BATCHES_TOGETHER = 64
"""Rows are sorted within so many batches, so that memory holds the tokens of as many and no more."""


@dataclass(frozen=True)
class Buckets:
    """The lengths that calls of the model have.

    Args:
        choice: a number whose multiples they are, or the lengths themselves; None: whatever length the longest row has.
        longest: tokens of a row at most; always one of the lengths.
    """

    choice: int | tuple[int, ...] | None
    longest: int

    def __post_init__(self) -> None:
        lengths = self.choice if isinstance(self.choice, tuple) else (1 if self.choice is None else self.choice,)
        check(bool(lengths) and min(lengths) > 0, "buckets", f"must be positive, got {self.choice}")
        if isinstance(self.choice, tuple):
            too_long = f"{max(lengths)} is more than the {self.longest} tokens that a row may have"
            check(max(lengths) <= self.longest, "buckets", too_long)

    def padded(self, length: int) -> int:
        """What a row of so many tokens is padded to."""
        if isinstance(self.choice, tuple):
            return min((bucket for bucket in self.choice if bucket >= length), default=self.longest)
        step = self.choice or 1
        return min(-(-length // step) * step, self.longest)


def in_order(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Batches of rows, by number, as they come."""
    for start in range(0, len(lengths), size):
        yield list(range(start, min(start + size, len(lengths))))


def by_length(lengths: Sequence[int], size: int, call_tokens: int | None = None) -> Iterator[list[int]]:
    """Batches of rows of like length, the longest first: of all cuts of the sorted rows the one that costs least.

    Args:
        lengths: of the rows, as they would be padded alone.
        size: rows a batch at most.
        call_tokens: what one more batch costs, in tokens, beside those that its rows are padded to; None: as few
            batches as there can be, and of those cuts the one that pads least.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    more = call_tokens if call_tokens is not None else 1 + len(order) * max(lengths, default=0)
    # what the rows from each one on cost at least, and where the batch that begins with it ends; as late as may be
    least_N, ends = np.zeros(len(order) + 1, np.int64), [0] * len(order)
    for start in range(len(order) - 1, -1, -1):
        last = min(start + size, len(order))
        rows = np.arange(last - start, 0, -1)
        costs = rows * lengths[order[start]] + least_N[start + rows]
        best = int(costs.argmin())
        least_N[start], ends[start] = costs[best] + more, start + rows[best]
    start = 0
    while start < len(order):
        yield order[start : ends[start]]
        start = ends[start]
