"""Tables of separated values. Every cell is text, and every row knows its line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finegates_export.errors import InputError
from finegates_trainer.data.text_files import read_text

Row = tuple[int, list[str]]
"""The line that a row begins at, and its values."""


def separated(path: Path, most: int | None = None) -> Any:
    """The table of a CSV or TSV file, as a pandas data frame; a separator after a row's last value is ignored.

    Columns without a name, as pandas writes row numbers, are left out. Values that a row lacks are None.

    Args:
        path: the file.
        most: read no rows, and look for the header in about this many bytes; None reads all.

    Raises:
        InputError: the file cannot be read, or a row has more values than the header has names; the message names it.
    """
    import pandas as pd

    text = read_text(path, most)
    rows = _rows(text, path)
    named = {}
    header = next(rows, (0, []))[1]
    for number, name in enumerate(header):
        if name in named:
            raise InputError(f"{path} has two columns {name!r}; rename or remove one")
        if name.strip():
            named[name] = number
    if not named:
        raise InputError(f"{path} cannot be read: its first line names no columns; give a header")
    lines, values = [], []
    for line, row in rows if most is None else ():
        if len(header) > 1 and not any(value.strip() for value in row) and len(row) == 1:
            continue
        if any(value.strip() for value in row[len(header) :]):
            raise InputError(
                f"{path} line {line} has more values than the header's {len(header)} names ({', '.join(header)}); "
                "name every column, or quote texts that contain commas (CSV)"
            )
        lines.append(line)
        values.append([row[number] if number < len(row) else None for number in named.values()])
    return pd.DataFrame(values, columns=[*named], index=pd.Index(lines, name="line", dtype="int64"), dtype=object)


def _rows(text: str, path: Path) -> Iterator[Row]:
    """The rows that are not empty.

    Raises:
        InputError: a quote is not closed, or something follows it; the message names the row's first line.
    """
    # Tab-separated corpora do not quote: a quote character is data.
    form: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if path.suffix.lower() == ".tsv" else {}
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, **form)
    # The module refuses values of more than 131,072 characters, for the whole process.
    most = csv.field_size_limit(max(len(text) + 1, csv.field_size_limit()))
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{path} line {line} cannot be read: {error}; close quotes, and write one within a quoted text twice"
        ) from error
    finally:
        csv.field_size_limit(most)
