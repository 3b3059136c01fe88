"""Labelled rows, their source, and how to split and limit them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

EVAL_SHARE = 0.1


@dataclass(frozen=True)
class Rows:
    """Labelled rows; every list has one entry per row."""

    texts: list[Any]
    """Strings; lists of words for token classification; paths of files for images; for text generation documents,
    prompts, or conversations as lists of messages."""
    pairs: list[str] | None
    """The second texts, if rows have two."""
    labels: list[Any]
    """Labels from the source: strings, ints or floats; lists of them for several labels per row or one per word; for
    questions, the answer's text and start; for text generation, a completion or None."""
    places: list[str] | None = None
    """The place of each row, for messages; None if no message needs it."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: list[int]) -> Rows:
        """The rows at these positions."""
        pairs = [self.pairs[i] for i in indices] if self.pairs is not None else None
        places = [self.places[i] for i in indices] if self.places is not None else None
        return Rows([self.texts[i] for i in indices], pairs, [self.labels[i] for i in indices], places)

    def digest(self) -> str:
        """SHA-256 over all rows: identifies equal data in two runs."""
        digest = hashlib.sha256()
        for i, text in enumerate(self.texts):
            pair = self.pairs[i] if self.pairs is not None else ""
            digest.update(f"{_identity(text)}\x1f{pair}\x1f{self.labels[i]}\x1e".encode())
        return digest.hexdigest()

    def held_out(self, *, by_pair: bool = False) -> tuple[Rows, Rows]:
        """Nine tenths for training and a tenth for evaluation, selected by a hash of the text.

        Args:
            by_pair: hash the second text instead, so that questions about one text do not reveal each other's answers.
        """
        known_by = self.pairs if by_pair and self.pairs is not None else self.texts
        evaluation = [i for i, text in enumerate(known_by) if _hash_share(_identity(text)) < EVAL_SHARE]
        chosen = set(evaluation)
        return self.take([i for i in range(len(self)) if i not in chosen]), self.take(evaluation)


@dataclass(frozen=True)
class DataSource:
    """What to read and how, with the field names of `TrainOptions`."""

    data: str
    eval_data: str | None = None
    text_column: str | None = None
    pair_column: str | None = None
    label_column: str | None = None
    task: str = "classification"


@dataclass(frozen=True)
class LabelledData:
    """Training rows and evaluation rows."""

    train: Rows
    evaluation: Rows


def limit_rows(rows: Rows, count: int | None, seed: int) -> Rows:
    """At most `count` rows, sampled with the seed, in their old order."""
    if count is None or count >= len(rows):
        return rows
    drawn = np.random.default_rng(seed).permutation(len(rows))[:count]
    return rows.take(sorted(int(i) for i in drawn))


def _identity(text: Any) -> str:
    """A row's identity; for a file, its name and its folder's name, regardless of the path."""
    return "/".join(text.parts[-2:]) if isinstance(text, Path) else str(text)


def _hash_share(text: str) -> float:
    """A number in [0, 1) that depends only on the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
