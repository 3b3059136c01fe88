"""Rows from JSON: one object per line, a list of objects, or an object of columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from finegates_export.errors import InputError
from finegates_trainer.data.text_files import read_lines

FORMS = "rows are a list of objects, [{column: value, ...}, ...], or an object of columns, {column: [values], ...}"


def json_lines(path: Path, most: int | None = None) -> dict[int, dict[str, Any]]:
    """The objects of a JSONL file by their lines.

    Args:
        path: the file.
        most: read about this many bytes; None reads all.

    Raises:
        InputError: a line is not an object; the message names it.
    """
    rows = {}
    for line, written in enumerate(read_lines(path, most).split("\n"), 1):
        if not written.strip():
            continue
        try:
            row = parse_json(written)
        except ValueError as error:
            raise InputError(f"{path} line {line} is not JSON ({error}); correct or remove it") from error
        if not isinstance(row, dict):
            raise InputError(
                f"{path} line {line} is {written[:40]!r}, not an object; rows look like {{column: value, ...}}"
            )
        rows[line] = row
    return rows


def json_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON file.

    Raises:
        InputError: it is not JSON, or neither a list of objects nor columns of one length.
    """
    try:
        content = parse_json(read_lines(path))
    except json.JSONDecodeError as error:
        lines = "; one object per line is JSONL, name it .jsonl" if error.msg == "Extra data" else ""
        raise InputError(f"{path} cannot be read: {error}; correct or replace it{lines}") from error
    except ValueError as error:
        raise InputError(f"{path} cannot be read: {error}; correct or replace it") from error
    if isinstance(content, dict):
        return _from_columns(content, path)
    if not isinstance(content, list):
        raise InputError(f"{path} holds neither rows nor columns; {FORMS}")
    for number, row in enumerate(content, 1):
        if not isinstance(row, dict):
            raise InputError(f"{path} row {number} is {row!r:.60}, not an object; {FORMS}")
    return content


def parse_json(text: str) -> Any:
    """A JSON value; an object with a key twice is refused, for the first value would be lost.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _from_columns(content: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """Rows of columns, each a list or an object with the same row names."""
    columns: dict[str, list[Any]] = {}
    order: list[str] | None = None
    for name, column in content.items():
        if isinstance(column, dict):
            order = order or [*column]
            if set(column) != set(order):
                raise InputError(f"{path}: column {name!r} has other rows than the first; {FORMS}")
            columns[name] = [column[key] for key in order]
        elif isinstance(column, list):
            columns[name] = column
        else:
            raise InputError(f"{path}: {name!r} is {column!r:.60}, not a column; {FORMS}")
    if len({len(column) for column in columns.values()}) > 1:
        told = ", ".join(f"{name} {len(column)}" for name, column in columns.items())
        raise InputError(f"{path} has columns of several lengths ({told}); {FORMS}")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return found
