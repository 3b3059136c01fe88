"""Labels as numbers: their names, and the numbers that training reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from finegates_export.errors import InputError


def label_name(label: object) -> str:
    """A label's name: 1, 1.0 and "1" are the same label."""
    if isinstance(label, (float, np.floating)) and float(label).is_integer():
        return str(int(label))
    return str(label).strip()


def all_names(labels: Sequence[object]) -> Iterator[str]:
    """The name of every label, including those of rows with several."""
    for label in labels:
        for one in label if isinstance(label, list) else [label]:
            yield label_name(one)


def name_index(labels: Sequence[object], names: Sequence[str], what: str) -> dict[str, int]:
    """The output of every label name.

    Args:
        labels: the rows' labels.
        names: label names of the training rows, in the order of the head's outputs.
        what: what messages call the rows.

    Raises:
        InputError: a row has a label that the training rows lack.
    """
    index = {name: i for i, name in enumerate(names)}
    unseen = sorted(set(all_names(labels)) - set(index))
    if unseen:
        raise InputError(f"{what} rows have labels that training lacks: {unseen[:5]}; it has {list(names)}")
    return index


def scores_of(labels: Sequence[object], what: str) -> list[float]:
    """Labels as numbers.

    Args:
        labels: the rows' labels.
        what: what messages call the rows.

    Raises:
        InputError: a label is not a finite number.
    """
    return [_score(label, row, what) for row, label in enumerate(labels)]


def _score(label: Any, row: int, what: str) -> float:
    try:
        score = float(label)
    except (TypeError, ValueError):
        score = float("nan")
    if not np.isfinite(score):
        raise InputError(f"{what} row {row + 1} has the score {label!r}; scores must be finite numbers")
    return score
