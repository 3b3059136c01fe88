"""What a cell may hold: text, a number, or a list of them where the task reads lists. Everything else is refused."""

from __future__ import annotations

import math
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np

from finegates_export.errors import InputError
from finegates_trainer.data.tables import place

LISTS = (list, np.ndarray)
"""The types of lists from JSON and Parquet."""
BINARY = (bytes, bytearray, memoryview)
TOLD = 60
"""Characters of a value in a message."""


def refuse_odd(table: Any, column: str, expected: str, where: str, *, lists: bool = False) -> None:
    """Refuse a column with a cell that is neither text nor number.

    Args:
        table: of `read_tables`.
        column: the column's name.
        expected: what a cell holds, and what to do about others, for messages.
        where: what the user named.
        lists: whether lists are read too; their entries are checked by themselves.

    Raises:
        InputError: there is such a cell; the message names its row.
    """
    for number, value in enumerate(table[column]):
        if lists and isinstance(value, LISTS):
            continue
        odd = odd_value(value)
        if odd:
            raise InputError(f"{place(table, number, where)} has {odd} in column {column!r}, but {expected}")


def odd_value(value: Any) -> str | None:
    """What a value is that is neither text nor a finite number, as messages call it; None for those."""
    if isinstance(value, str):
        return None if _is_unicode(value) else f"half a character (a lone surrogate) in {value!a:.{TOLD}}"
    if isinstance(value, (bool, np.bool_)):
        return f"the boolean {value}"
    if isinstance(value, Integral):
        return None
    if isinstance(value, (Real, Decimal)):
        return None if math.isfinite(value) else f"{value!r:.{TOLD}}, which is not finite,"
    return _told(value)


def number_of(value: Any) -> float | None:
    """A cell as a finite number; None if it is none."""
    if odd_value(value) or (isinstance(value, str) and "_" in value):  # Python reads 1_0 as 10
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _told(value: Any) -> str:
    if isinstance(value, LISTS):
        return f"the list {list(value)!r:.{TOLD}}"
    if isinstance(value, dict):
        return f"the object {value!r:.{TOLD}}"
    if isinstance(value, BINARY):
        return f"binary data {bytes(value[:TOLD])!r:.{TOLD}}"
    return f"{value!r:.{TOLD}} of type {type(value).__name__}"
