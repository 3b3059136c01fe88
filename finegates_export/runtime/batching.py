"""Which rows go through the model together, and how long they are made: every padded token is computed too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from finegates_export.options import check

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
            too_long = f"{max(lengths)} is more than the {self.longest} tokens that a row has at most"
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


def by_length(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Batches of rows of like length, the longest first.

    One batch is smaller than the others where their number does not divide; it stands where that pads least. No other
    order of the rows is padded to fewer tokens.

    Args:
        lengths: of the rows, as they would be padded alone.
        size: rows a batch.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    full, rest = divmod(len(order), size)

    def tokens(place: int) -> int:
        return sum(len(batch) * lengths[batch[0]] for batch in _cut(order, size, place, rest))

    best = min(range(full, -1, -1), key=tokens) if rest else full
    yield from _cut(order, size, best, rest)


def _cut(order: list[int], size: int, place: int, rest: int) -> Iterator[list[int]]:
    """The order in batches; that of the rest is number `place`."""
    start = 0
    while start < len(order):
        end = start + (rest if rest and start == place * size else size)
        yield order[start:end]
        start = end
