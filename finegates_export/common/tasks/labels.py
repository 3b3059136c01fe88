"""Labels as numbers: how a label is named, and what training reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from finegates_export.errors import InputError


def label_name(label: object) -> str:
    """How a label is named: 1 and 1.0 and "1" are the same label."""
    if isinstance(label, (float, np.floating)) and float(label).is_integer():
        return str(int(label))
    return str(label).strip()


def all_names(labels: Sequence[object]) -> Iterator[str]:
    """The name of every label, of rows that have several too."""
    for label in labels:
        for one in label if isinstance(label, list) else [label]:
            yield label_name(one)


def name_index(labels: Sequence[object], names: Sequence[str], what: str) -> dict[str, int]:
    """The output of every label name.

    Args:
        labels: of the rows.
        names: those that training has seen, in the order of the head's outputs.
        what: the rows as a message calls them.

    Raises:
        InputError: a row has a label that training has not seen.
    """
    index = {name: i for i, name in enumerate(names)}
    unseen = sorted(set(all_names(labels)) - set(index))
    if unseen:
        raise InputError(f"{what} rows have labels that training has not seen: {unseen[:5]}; seen were {list(names)}")
    return index


def scores_of(labels: Sequence[object], what: str) -> list[float]:
    """Labels as numbers.

    Args:
        labels: of the rows.
        what: the rows as a message calls them.

    Raises:
        InputError: one is not a finite number.
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
