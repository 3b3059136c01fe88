"""Answers as spans of their texts: from columns of text and start, or from SQuAD's dictionaries."""

from __future__ import annotations

from typing import Any

from finegates_export.errors import InputError
from finegates_trainer.data.cells import number_of, odd_value
from finegates_trainer.data.gaps import is_nothing
from finegates_trainer.data.tables import place

START_COLUMNS = ("answer_start", "start")


def answers_of(table: Any, column: str, contexts: list[str], where: str) -> list[tuple[str, int]]:
    """Text and start of every row's first answer.

    Args:
        table: of `read_tables`.
        column: the answers' column.
        contexts: the texts that contain them.
        where: what the user named.

    Raises:
        InputError: a row has no answer, or one that is not at its start; the message names the row.
    """
    answers = []
    for number, (value, given, context) in enumerate(zip(table[column], _starts(table), contexts, strict=True)):
        text, first = value, given
        if isinstance(value, dict):
            text, first = _first(value.get("text")), _first(value.get("answer_start"))
        at = place(table, number, where)
        odd = None if is_nothing(text) else odd_value(text)
        if odd:
            raise InputError(f"{at} has {odd} for an answer in column {column!r}, but a text is expected; correct it")
        answers.append(_placed("" if is_nothing(text) else str(text), _start(first, at), context, at))
    return answers


def _starts(table: Any) -> list[Any]:
    """The column of starts; None if it is empty or missing."""
    column = next((name for name in START_COLUMNS if name in table.columns), None)
    if column is None:
        return [None] * len(table)
    return [None if missing else value for missing, value in zip(table[column].isna(), table[column], strict=True)]


def _first(value: Any) -> Any:
    """The first of a list, None for an empty one; a single answer needs no list."""
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return value
    return next(iter(value), None)


def _start(value: Any, at: str) -> int | None:
    """Where an answer starts according to its row; None if it must be searched for."""
    if is_nothing(value) or (isinstance(value, str) and not value.strip()):
        return None
    start = number_of(value)
    if start is None or not start.is_integer():
        raise InputError(
            f"{at} has the start {value!r:.60} of an answer, but a whole number is expected; correct it, or omit it "
            "to search for the answer"
        )
    return int(start)


def _placed(text: str, start: int | None, context: str, at: str) -> tuple[str, int]:
    if not text:
        raise InputError(f"{at} has no answer; every question needs one in its text, remove those without one")
    first = context.find(text) if start is None else start
    if start is None and first < 0:
        raise InputError(f"{at}: the answer {text!r} is not in its text; correct or remove it")
    if first < 0 or context[first : first + len(text)] != text:
        raise InputError(f"{at}: the answer {text!r} is not at {first} in its text; correct its start")
    return text, first
