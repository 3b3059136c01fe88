"""The order in which steps see the rows: a function of only seed and epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

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
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int, processes: Processes | None = None) -> None:
        self.lengths = np.asarray(lengths)
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
        order = generator.permutation(len(self.lengths))
        pool = self.batch_size * POOL_BATCHES
        batches: list[list[int]] = []
        for start in range(0, len(order), pool):
            rows = order[start : start + pool]
            rows = rows[np.argsort(self.lengths[rows], kind="stable")]
            batches += [rows[i : i + self.batch_size].tolist() for i in range(0, len(rows), self.batch_size)]
        for i in generator.permutation(len(batches))[self.done :]:
            yield self.processes.part(batches[i])


def evaluation_batches(rows: Examples, batch_size: int) -> Iterator[list[int]]:
    """Indices sorted by length, in batches."""
    lengths = rows.lengths
    order = sorted(range(len(rows)), key=lambda i: lengths[i])
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
