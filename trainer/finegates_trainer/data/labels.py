"""Label names, and labels as numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from finegates_export.common.tasks import task_of
from finegates_export.errors import InputError
from finegates_trainer.data.rows import Rows


def label_names(train: Rows, base_labels: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Label names in the order of the head's outputs.

    A base that is already fine-tuned for exactly these labels keeps its order; otherwise numbers ascend and words are
    sorted.
    """
    names = set(_all_names(train))
    if names == set(base_labels):
        return base_labels
    return tuple(sorted(names, key=lambda name: (not _is_number(name), float(name) if _is_number(name) else 0.0, name)))


def label_name(label: Any) -> str:
    """A label's name: 1, 1.0 and "1" are the same label."""
    if isinstance(label, (float, np.floating)) and float(label).is_integer():
        return str(int(label))
    return str(label).strip()


def encode_labels(rows: Rows, task: str, labels: tuple[str, ...], what: str) -> list[Any]:
    """Labels as training reads them.

    Class indices for one label per row; a list of 0 and 1 for several; a list of indices for words; floats for scores.
    Answers and completions stay unchanged: their tokens are known once the text is tokenized.

    Raises:
        InputError: a label that is not in the training rows, or a score that is not a finite number.
    """
    unit = task_of(task).unit
    if unit in ("span", "next"):
        return rows.labels
    if unit in ("score", "vector"):
        return [_score(label, i, what) for i, label in enumerate(rows.labels)]
    index = {name: i for i, name in enumerate(labels)}
    unseen = sorted(set(_all_names(rows)) - set(index))
    if unseen:
        raise InputError(f"{what} rows have labels that training lacks: {unseen[:5]}; it has {list(labels)}")
    if unit == "row":
        return [index[label_name(label)] for label in rows.labels]
    encoded = [[index[label_name(one)] for one in several] for several in rows.labels]
    if unit == "token":
        return encoded
    return [[float(i in chosen) for i in range(len(labels))] for chosen in encoded]


def _all_names(rows: Rows) -> Iterator[str]:
    for label in rows.labels:
        for one in label if isinstance(label, list) else [label]:
            yield label_name(one)


def _score(label: Any, row: int, what: str) -> float:
    try:
        score = float(label)
    except (TypeError, ValueError):
        score = float("nan")
    if not np.isfinite(score):
        raise InputError(f"{what} row {row + 1} has the score {label!r}; scores must be finite numbers")
    return score


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
