"""The order in which steps see the rows: a function of only seed and epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby

import numpy as np
import numpy.typing as npt

from finegates_trainer.data.examples import Examples
from finegates_trainer.processes import Processes

POOL_BATCHES = 32
"""Rows are shuffled, then sorted by length within pools of this many batches, to reduce padding."""


class EpochBatches:
    """Batches of row indices for one epoch; a sampler for `DataLoader(batch_sampler=...)`.

    Args:
        lengths: tokens of each row.
        batch_size: rows per batch, over all processes; the last may be smaller.
        seed: the run's seed.
        processes: the processes that share the rows; this one gets its part of every batch.
        groups: the number of each row's group, from 0. A group's rows follow one another, so that only those at the
            edge of a batch are divided, and within a batch one process gets them all. None: rows by themselves.
    """

    def __init__(
        self,
        lengths: list[int],
        batch_size: int,
        seed: int,
        processes: Processes | None = None,
        groups: list[int] | None = None,
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.groups = None if groups is None else np.asarray(groups)
        if self.groups is not None:
            longest = np.zeros(self.groups.max() + 1, np.int64)
            np.maximum.at(longest, self.groups, self.lengths)
            self.lengths = longest[self.groups]
        self.batch_size = batch_size
        self.seed = seed
        self.processes = processes or Processes()
        self.epoch = 0
        self.done = 0
        """Batches to skip at the start of the epoch, seen before a resume."""

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng((self.seed, self.epoch))
        order = self._gathered(generator.permutation(len(self.lengths)))
        pool = self.batch_size * POOL_BATCHES
        batches: list[list[int]] = []
        for start in range(0, len(order), pool):
            rows = order[start : start + pool]
            rows = rows[np.argsort(self.lengths[rows], kind="stable")]
            batches += [rows[i : i + self.batch_size].tolist() for i in range(0, len(rows), self.batch_size)]
        for i in generator.permutation(len(batches))[self.done :]:
            yield self._part(batches[i])

    def _gathered(self, order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Rows of a group one after the other, groups in the order of their first rows."""
        if self.groups is None:
            return order
        groups = self.groups[order]
        _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
        return order[np.argsort(first[inverse], kind="stable")]

    def _part(self, batch: list[int]) -> list[int]:
        groups = self.groups
        if groups is None:
            return self.processes.part(batch)
        whole = [list(rows) for _, rows in groupby(batch, key=lambda row: int(groups[row]))]
        return [row for rows in self.processes.part(whole) for row in rows]


def evaluation_batches(rows: Examples, batch_size: int) -> Iterator[list[int]]:
    """Indices sorted by length, in batches."""
    lengths = rows.lengths
    order = sorted(range(len(rows)), key=lambda i: lengths[i])
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
