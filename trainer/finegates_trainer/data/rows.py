"""Labelled rows, their source, and how to split and limit them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finegates_export.common.tasks.labels import all_names
from finegates_export.errors import InputError

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

    def held_out(self, *, by_pair: bool = False, named_labels: bool = False) -> tuple[Rows, Rows]:
        """Nine tenths for training and a tenth for evaluation, selected by a hash of the text.

        Args:
            by_pair: hash the second text instead, so that questions about one text do not reveal each other's answers.
            named_labels: whether labels are names, of which training must not lack one: rows go back to it, all with
                the same text together, until each label is among them.
        """
        texts = self.pairs if by_pair and self.pairs is not None else self.texts
        known_by = [_identity(text) for text in texts]
        chosen = {name for name in set(known_by) if _hash_share(name) < EVAL_SHARE}
        if named_labels:
            chosen -= self._needed(known_by, chosen)
        is_chosen = [name in chosen for name in known_by]
        return self._where(is_chosen, False), self._where(is_chosen, True)

    def row_labels(self) -> list[set[str]]:
        """The names of each row's labels."""
        return [set(all_names([label])) for label in self.labels]

    def _where(self, marks: list[bool], mark: bool) -> Rows:
        return self.take([i for i, one in enumerate(marks) if one is mark])

    def _needed(self, known_by: list[str], chosen: set[str]) -> set[str]:
        """Of the texts chosen for evaluation those that training needs, for no other row has one of their labels."""
        labels_of: dict[str, set[str]] = {}
        for name, labels in zip(known_by, self.row_labels(), strict=True):
            labels_of.setdefault(name, set()).update(labels)
        kept = {label for name, labels in labels_of.items() if name not in chosen for label in labels}
        needed = set()
        for name in sorted(chosen, key=_hash_share, reverse=True):  # the last that a smaller share would choose
            if not labels_of[name] <= kept:
                needed.add(name)
                kept |= labels_of[name]
        return needed


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


def limit_rows(rows: Rows, count: int | None, seed: int, *, named_labels: bool = False) -> Rows:
    """At most `count` rows, sampled with the seed, in their old order.

    Args:
        rows: what to sample.
        count: how many to keep; None keeps all.
        seed: seed of the sample.
        named_labels: whether labels are names: each keeps a row, in place of rows drawn last.

    Raises:
        InputError: there are more labels than `count` rows can hold.
    """
    if count is None or count >= len(rows):
        return rows
    drawn = [int(i) for i in np.random.default_rng(seed).permutation(len(rows))]
    if named_labels:
        drawn = _labels_first(rows, drawn, count)
    return rows.take(sorted(drawn[:count]))


def _labels_first(rows: Rows, drawn: list[int], count: int) -> list[int]:
    """The drawn order, with a row for each label among the first `count`."""
    labels = rows.row_labels()
    missing = set().union(*labels).difference(*(labels[i] for i in drawn[:count]))
    if not missing:
        return drawn
    seen: set[str] = set()
    needed = []
    for i in drawn:
        if not labels[i] <= seen:
            needed.append(i)
            seen |= labels[i]
    if len(needed) > count:
        raise InputError(
            f"max-train-rows: {count} rows cannot hold all {len(seen)} labels of the training rows; give at least "
            f"{len(needed)}"
        )
    first = set(needed)
    return needed + [i for i in drawn if i not in first]


def _identity(text: Any) -> str:
    """A row's identity; for a file, its name and its folder's name, regardless of the path."""
    return "/".join(text.parts[-2:]) if isinstance(text, Path) else str(text)


def _hash_share(text: str) -> float:
    """A number in [0, 1) that depends only on the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
