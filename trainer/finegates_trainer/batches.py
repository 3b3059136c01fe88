"""Tokenized rows and the order in which a step sees them: a function of seed and epoch alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finegates_trainer.data import Rows

POOL_BATCHES = 32
"""Rows are shuffled, then sorted by length within pools of this many batches, so that little is padding."""


@dataclass(frozen=True)
class Tokenized:
    """Rows as token ids, not padded."""

    inputs: list[dict[str, list[int]]]
    labels: list[float]
    pad_token_id: int

    def __len__(self) -> int:
        return len(self.inputs)

    def collate(self, indices: list[int]) -> tuple[dict[str, Tensor], Tensor]:
        """Rows padded to the longest of them, and their labels."""
        return pad([self.inputs[i] for i in indices], self.pad_token_id), torch.tensor(
            [self.labels[i] for i in indices]
        )


def tokenize(tokenizer: Any, rows: Rows, labels: list[float], max_length: int, names: tuple[str, ...]) -> Tokenized:
    """Tokenize all rows, truncated to `max_length`, with the inputs that the model's graph has."""
    encoded = tokenizer(rows.texts, rows.pairs, truncation=True, max_length=max_length, padding=False)
    inputs = []
    for i in range(len(rows)):
        row = {name: list(encoded[name][i]) for name in names if name in encoded}
        row.setdefault("token_type_ids", [0] * len(row["input_ids"])) if "token_type_ids" in names else None
        inputs.append(row)
    return Tokenized(inputs, labels, tokenizer.pad_token_id or 0)


def pad(rows: list[dict[str, list[int]]], pad_token_id: int) -> dict[str, Tensor]:
    """Right-padded int64 tensors of shape (rows, longest)."""
    longest = max(len(row["input_ids"]) for row in rows)
    filler = {"input_ids": pad_token_id}
    return {
        name: torch.tensor([row[name] + [filler.get(name, 0)] * (longest - len(row[name])) for row in rows])
        for name in rows[0]
    }


class EpochBatches:
    """Batches of row indices for one epoch; a sampler for `DataLoader(batch_sampler=...)`.

    Args:
        lengths: tokens of each row.
        batch_size: rows a batch; the last may be smaller.
        seed: the run's seed.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.drop_last = False

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
        for i in generator.permutation(len(batches)):
            yield batches[i]


def evaluation_batches(rows: Tokenized, batch_size: int) -> Iterator[list[int]]:
    """Indices in order of length, a batch at a time."""
    order = sorted(range(len(rows)), key=lambda i: len(rows.inputs[i]["input_ids"]))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
