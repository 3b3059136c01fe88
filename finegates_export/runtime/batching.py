"""Which rows the model reads together, and to what length they are padded: padded tokens cost time too.

Shapes: N rows, sorted by length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from finegates_export.common.options import check

BATCHES_TOGETHER = 64
"""Rows are sorted within this many batches, so that memory never holds more tokens."""


@dataclass(frozen=True)
class Buckets:
    """The sequence lengths that calls of the model may have.

    Args:
        choice: the lengths, or a number to use multiples of; None for the length of the longest row.
        longest: maximum tokens per row; always one of the lengths.
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
        """The length that a row of this many tokens is padded to."""
        if isinstance(self.choice, tuple):
            return min((bucket for bucket in self.choice if bucket >= length), default=self.longest)
        step = self.choice or 1
        return min(-(-length // step) * step, self.longest)


def in_order(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Batches of row numbers, in the given order."""
    for start in range(0, len(lengths), size):
        yield list(range(start, min(start + size, len(lengths))))


def by_length(lengths: Sequence[int], size: int, call_tokens: int | None = None) -> Iterator[list[int]]:
    """Batches of rows of similar length, longest first: the cheapest way to split the sorted rows.

    Args:
        lengths: padded length of each row alone.
        size: maximum rows per batch.
        call_tokens: overhead of one more batch, in tokens; None for as few batches as possible, split for the least
            padding.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    more = call_tokens if call_tokens is not None else 1 + len(order) * max(lengths, default=0)
    # least cost of all rows from each one on, and the end of the batch that starts with it, as late as possible
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
