"""Refusing rows with missing values by their place: converted to text, they would be trained as "nan"."""

from __future__ import annotations

from numbers import Real
from typing import Any

from finegates_export.errors import InputError
from finegates_trainer.data.cells import odd_value
from finegates_trainer.data.tables import place


def refuse_missing(table: Any, column: str, kind: str, where: str, *, blank: bool = False) -> None:
    """Refuse a table with a missing value in a column.

    Args:
        table: of `read_tables`.
        column: the column's name.
        kind: what the column holds, as messages call it.
        where: what the user named.
        blank: whether text of only spaces counts as missing; CSV and TSV files have no other way to leave a cell empty.

    Raises:
        InputError: there is such a row; the message names the first and counts them.
    """
    gaps = [
        number
        for number, (missing, value) in enumerate(zip(table[column].isna(), table[column], strict=True))
        if missing or (blank and _is_blank(value))
    ]
    if gaps:
        raise InputError(
            f"{place(table, gaps[0], where)} has no {kind} in column {column!r} ({len(gaps)} of {len(table)} rows "
            "have none); give one or remove it"
        )


def refuse_gaps(table: Any, column: str, lists: list[list[Any]], where: str, *, blank: bool = False) -> None:
    """Refuse a column whose lists have missing values, or values that are neither names nor numbers.

    Args:
        table: of `read_tables`.
        column: the column's name.
        lists: its parsed values.
        where: what the user named.
        blank: whether text of only spaces counts as missing.

    Raises:
        InputError: there is such a row; the message names it.
    """
    for number, entries in enumerate(lists):
        for one in entries:
            if odd_value(one) or (blank and _is_blank(one)):
                raise InputError(
                    f"{place(table, number, where)} has {one!r:.60} among the values in column {column!r}, but names "
                    "or numbers are expected; correct or remove it"
                )


def is_nothing(value: Any) -> bool:
    """Whether a single value means missing: null or NaN."""
    return value is None or (isinstance(value, Real) and value != value)  # noqa: PLR0124  # NaN alone differs from itself


def _is_blank(value: Any) -> bool:
    return isinstance(value, str) and not value.strip()
