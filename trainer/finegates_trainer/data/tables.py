"""Tables from files, folders and `datasets` names; the meaning of columns is decided elsewhere.

A table knows the place of each of its rows (see `place`), for messages.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from finegates_export.errors import InputError, missing_extra
from finegates_trainer.data.json_rows import json_lines, json_rows
from finegates_trainer.data.separated import separated
from finegates_trainer.data.text_files import read_lines

SUFFIXES = (".tsv", ".csv", ".jsonl", ".json", ".parquet", ".txt")
EVAL_NAMES = ("dev", "validation", "valid", "val", "eval", "test")
HEAD_BYTES = 1 << 20
BETWEEN_DOCUMENTS = re.compile(r"\n(?:[^\S\n]*\n){2,}")
"""Two or more empty lines separate the documents of a text file; one empty line separates paragraphs."""


def read_tables(source: str, *, held_out: bool = True) -> tuple[Any, Any]:
    """The training table and the evaluation table (None if there is only one), as pandas data frames.

    Args:
        source: a file, a folder or the name of a data set.
        held_out: whether to read the evaluation table.

    Raises:
        InputError: nothing found, or a file cannot be read.
        MissingExtraError: the `train` extra is not installed.
    """
    files = local_files(source, held_out=held_out)
    if not files:
        return _hub_tables(source, held_out)
    train, *others = map(_read_table, files)
    return train, others[0] if others else None


def local_files(source: str, *, held_out: bool = True) -> list[Path]:
    """The training file and, if there is one, the evaluation file; none for the name of a data set.

    Args:
        source: a file, a folder or the name of a data set.
        held_out: whether to look for an evaluation file.

    Raises:
        InputError: the file is not there, or the folder has no training file.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        train = _find_file(path, ("train",))
        if train is None:
            raise InputError(f"folder {source} holds no train file; expected train with one of {', '.join(SUFFIXES)}")
        others = _find_file(path, EVAL_NAMES) if held_out else None
        return [train, others] if others else [train]
    if path.suffix.lower() in SUFFIXES or path.is_absolute() or source.startswith("."):
        raise InputError(f"data {source} does not exist; give a file, a folder with a train file, or a data set's name")
    return []


def read_head(path: Path) -> Any:
    """The beginning of a file as a table: all of a small one, else its columns or first rows; None if it has neither.

    Raises:
        InputError: it cannot be read.
    """
    if path.stat().st_size <= HEAD_BYTES:
        return _read_table(path)
    return None if path.suffix.lower() in (".json", ".txt") else _read_table(path, HEAD_BYTES)


def place(table: Any, number: int, source: str) -> str:
    """A row's place for messages: a file and a line, or a row number.

    Args:
        table: of `read_tables`.
        number: the row's number, from 0.
        source: what the user named; a table from a file knows its own name.
    """
    line = table.index[number] if table.index.name == "line" else None
    return f"{table.attrs.get('file', source)} " + (f"row {number + 1}" if line is None else f"line {line}")


def _find_file(folder: Path, names: tuple[str, ...]) -> Path | None:
    candidates = (folder / f"{name}{suffix}" for name in names for suffix in SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def _read_table(path: Path, most: int | None = None) -> Any:
    table = _parse(path, most)
    if not len(table.columns):
        raise InputError(f"{path} holds no rows; give some")
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise InputError(f"{path} has two columns {twice[0]!r}; rename or remove one")
    table.attrs["file"] = str(path)
    return table


def _parse(path: Path, most: int | None) -> Any:
    """The table of a file, or of its first bytes."""
    try:
        import pandas as pd
    except ImportError as error:
        raise missing_extra("pandas", "train") from error
    suffix = path.suffix.lower()
    try:
        if suffix in (".tsv", ".csv"):
            return separated(path, most)
        if suffix == ".json":
            return pd.DataFrame(json_rows(path), dtype=object)
        if suffix in (".jsonl", ".txt"):
            rows = json_lines(path, most) if suffix == ".jsonl" else _documents(read_lines(path))
            return pd.DataFrame([*rows.values()], index=pd.Index([*rows], name="line"), dtype=object)
        if suffix == ".parquet":
            return pd.read_parquet(path).reset_index(drop=True) if most is None else _parquet_columns(path)
    except (ValueError, OSError, NotImplementedError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read: {reason}; correct or replace it") from error
    raise InputError(f"{path}: {path.suffix or 'no suffix'} is not supported; use one of {', '.join(SUFFIXES)}")


def _parquet_columns(path: Path) -> Any:
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it has no types

    return pq.read_schema(path).empty_table().to_pandas()


def _documents(text: str) -> dict[int, dict[str, Any]]:
    """The documents of a text file by their first line, without empty ones."""
    gaps = [*BETWEEN_DOCUMENTS.finditer(text)]
    starts = [0, *(gap.end() for gap in gaps)]
    ends = [*(gap.start() for gap in gaps), len(text)]
    rows: dict[int, dict[str, Any]] = {}
    for start, end in zip(starts, ends, strict=True):
        document = text[start:end].lstrip("\n")
        first = end - len(document)
        if document.strip():
            rows[text.count("\n", 0, first) + 1] = {"text": document.rstrip("\n")}
    return rows


def _hub_tables(name: str, held_out: bool) -> tuple[Any, Any]:
    try:
        import datasets
    except ImportError as error:
        raise missing_extra("datasets", "train") from error
    repository, _, config = name.partition(":")
    try:
        splits = datasets.load_dataset(repository, config or None)
    except Exception as error:  # datasets raises a dozen unrelated classes for "not there"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{name} is neither a file or folder nor a data set that `datasets` could load ({reason}); "
            "a configuration is given as NAME:CONFIG"
        ) from error
    if "train" not in splits:
        raise InputError(f"data set {name} has no train split, only {sorted(splits)}; choose another, or give a file")
    others = next((splits[split] for split in ("validation", *EVAL_NAMES) if held_out and split in splits), None)
    return _named_labels(splits["train"]), _named_labels(others) if others is not None else None


def _named_labels(split: Any) -> Any:
    """A `datasets` split as a table, with class indices replaced by names, also in lists."""
    table = split.to_pandas()
    for column, feature in split.features.items():
        names = getattr(feature, "names", None)
        if names:
            table[column] = [_name_of(index, names) for index in table[column]]
        inner = getattr(getattr(feature, "feature", None), "names", None)
        if inner:
            table[column] = [
                None if indices is None else [_name_of(index, inner) for index in indices] for indices in table[column]
            ]
    return table


def _name_of(index: Any, names: list[str]) -> str | None:
    """The name of a class index; None for no class: null, or -1 in test splits."""
    return names[int(index)] if index is not None and index >= 0 else None
