"""Label names, and the rows' labels as training reads them."""

from __future__ import annotations

import math
import unicodedata
from typing import Any

from finegates_export.common.tasks import task_of
from finegates_export.common.tasks.labels import all_names, label_name
from finegates_export.errors import InputError
from finegates_trainer.data.rows import Rows

__all__ = ["encode_labels", "label_name", "label_names"]


def label_names(train: Rows, base_labels: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Label names in the order of the head's outputs.

    A base that is already fine-tuned for exactly these labels keeps its order; otherwise numbers ascend and words are
    sorted.

    Raises:
        InputError: two labels look the same, but are written with other characters.
    """
    names = set(all_names(train.labels))
    _check_alike(names)
    if len(names) == len(base_labels) and names == set(base_labels):
        return base_labels
    return tuple(sorted(names, key=_rank))


def encode_labels(rows: Rows, task: str, labels: tuple[str, ...], what: str) -> list[Any]:
    """Labels as training reads them.

    Class indices for one label per row; a list of 0 and 1 for several; a list of indices for words; floats for scores.
    Answers and completions stay unchanged: their tokens are known once the text is tokenized.

    Raises:
        InputError: a label that is not in the training rows, or a score that is not a finite number.
    """
    return task_of(task).encode_labels(rows.labels, labels, what)


def _check_alike(names: set[str]) -> None:
    seen: dict[str, str] = {}
    for name in sorted(names):
        other = seen.setdefault(unicodedata.normalize("NFC", name), name)
        if other != name:
            raise InputError(
                f"the labels {other!r} and {name!r} look the same, but are written with other characters "
                f"({other!a} and {name!a}); write them alike"
            )


def _rank(name: str) -> tuple[bool, float, str]:
    """Where a name stands among others: numbers first. A name such as "nan" is a word: it has no place among them."""
    try:
        number = float(name)
    except ValueError:
        number = math.inf
    is_number = math.isfinite(number)
    return not is_number, number if is_number else 0.0, name
