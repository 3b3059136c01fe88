"""Labelled text from a file, a folder or a `datasets` name; columns found by name, splits by a hash of the text."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finegates_export.errors import InputError, missing_extra

TEXT_COLUMNS = ("sentence", "text", "sentence1", "premise", "question1", "question", "content", "review")
PAIR_COLUMNS = ("sentence2", "hypothesis", "question2", "text2", "text_pair")
LABEL_COLUMNS = ("label", "labels", "score", "target", "class", "stars")
SUFFIXES = (".tsv", ".csv", ".jsonl", ".json", ".parquet")
EVAL_NAMES = ("dev", "validation", "valid", "eval", "test")
EVAL_SHARE = 0.1


@dataclass(frozen=True)
class Rows:
    """Labelled rows."""

    texts: list[str]
    pairs: list[str] | None
    labels: list[Any]
    """As the source has them: strings, ints or floats."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: list[int]) -> Rows:
        """The rows at these positions."""
        pairs = [self.pairs[i] for i in indices] if self.pairs is not None else None
        return Rows([self.texts[i] for i in indices], pairs, [self.labels[i] for i in indices])

    def digest(self) -> str:
        """SHA-256 over all rows: says whether two runs saw the same."""
        digest = hashlib.sha256()
        for i, text in enumerate(self.texts):
            pair = self.pairs[i] if self.pairs is not None else ""
            digest.update(f"{text}\x1f{pair}\x1f{self.labels[i]}\x1e".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class DataSource:
    """What to read and how; the fields of the same names in `TrainOptions`."""

    data: str
    eval_data: str | None = None
    text_column: str | None = None
    pair_column: str | None = None
    label_column: str | None = None


@dataclass(frozen=True)
class LabelledData:
    """Rows to train on and rows to evaluate on."""

    train: Rows
    evaluation: Rows


def read_data(source: DataSource) -> LabelledData:
    """Read both splits.

    Raises:
        InputError: nothing found, a column is missing, or no rows.
        MissingExtraError: a `datasets` name without the `train` extra.
    """
    train_table, eval_table = _tables(source.data)
    if source.eval_data:
        only, held_out = _tables(source.eval_data)
        eval_table = held_out if held_out is not None else only
    train = _rows(train_table, source, source.data)
    if eval_table is not None:
        evaluation = _rows(eval_table, source, source.eval_data or source.data)
    else:
        held_out_rows = [i for i in range(len(train)) if _hash_share(train.texts[i]) < EVAL_SHARE]
        chosen = set(held_out_rows)
        evaluation = train.take(held_out_rows)
        train = train.take([i for i in range(len(train)) if i not in chosen])
    for name, rows in (("training", train), ("evaluation", evaluation)):
        if not len(rows):
            raise InputError(f"{source.data}: no {name} rows; give more data, or --eval-data")
    return LabelledData(train, evaluation)


def limit_rows(rows: Rows, count: int | None, seed: int) -> Rows:
    """At most `count` rows, drawn by the seed, in their old order."""
    if count is None or count >= len(rows):
        return rows
    drawn = np.random.default_rng(seed).permutation(len(rows))[:count]
    return rows.take(sorted(int(i) for i in drawn))


def label_names(train: Rows, base_labels: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Label names in the order of the head's outputs.

    A base that is already fine-tuned for exactly these labels keeps its order; otherwise numbers ascend and words are
    sorted.
    """
    names = {label_name(label) for label in train.labels}
    if names == set(base_labels):
        return base_labels
    return tuple(sorted(names, key=lambda name: (not _is_number(name), float(name) if _is_number(name) else 0.0, name)))


def label_name(label: Any) -> str:
    """How a label is named: 1 and 1.0 and "1" are the same label."""
    if isinstance(label, (float, np.floating)) and float(label).is_integer():
        return str(int(label))
    return str(label).strip()


def encode_labels(rows: Rows, task: str, labels: tuple[str, ...], what: str) -> list[float]:
    """Labels as class indices, or as floats for regression.

    Raises:
        InputError: a label that training has not seen, or a score that is not a finite number.
    """
    if task == "regression":
        return [_score(label, i, what) for i, label in enumerate(rows.labels)]
    index = {name: i for i, name in enumerate(labels)}
    unseen = sorted({label_name(label) for label in rows.labels} - set(index))
    if unseen:
        raise InputError(f"{what} rows have labels that training has not seen: {unseen[:5]}; seen were {list(labels)}")
    return [index[label_name(label)] for label in rows.labels]


def _score(label: Any, row: int, what: str) -> float:
    try:
        score = float(label)
    except (TypeError, ValueError):
        score = float("nan")
    if not np.isfinite(score):
        raise InputError(f"{what} row {row + 1} has the score {label!r}; regression needs finite numbers")
    return score


def _tables(source: str) -> tuple[Any, Any]:
    """The training table and the evaluation table (None where there is only one)."""
    path = Path(source).expanduser()
    if path.is_file():
        return _read_table(path), None
    if path.is_dir():
        train = _find_file(path, ("train",))
        if train is None:
            raise InputError(f"folder {source} holds no train file; expected train with one of {', '.join(SUFFIXES)}")
        held_out = _find_file(path, EVAL_NAMES)
        return _read_table(train), _read_table(held_out) if held_out else None
    if path.suffix in SUFFIXES or path.is_absolute() or source.startswith("."):
        raise InputError(f"data {source} does not exist")
    return _hub_tables(source)


def _find_file(folder: Path, names: tuple[str, ...]) -> Path | None:
    candidates = (folder / f"{name}{suffix}" for name in names for suffix in SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def _read_table(path: Path) -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise missing_extra("pandas", "train") from error
    try:
        if path.suffix == ".tsv":
            # Tab-separated corpora do not quote: a quote character is data.
            return pd.read_csv(path, sep="\t", quoting=csv.QUOTE_NONE, dtype=str, keep_default_na=False)
        if path.suffix == ".csv":
            return pd.read_csv(path, dtype=str, keep_default_na=False)
        if path.suffix in (".jsonl", ".json"):
            return pd.read_json(path, lines=path.suffix == ".jsonl", dtype=False)
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    raise InputError(f"{path}: {path.suffix or 'no suffix'} is not supported; use one of {', '.join(SUFFIXES)}")


def _hub_tables(name: str) -> tuple[Any, Any]:
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
        raise InputError(f"data set {name} has no train split, only {sorted(splits)}")
    held_out = next((splits[split] for split in ("validation", *EVAL_NAMES) if split in splits), None)
    return _named_labels(splits["train"]), _named_labels(held_out) if held_out is not None else None


def _named_labels(split: Any) -> Any:
    """A `datasets` split as a table, class indices replaced by their names."""
    table = split.to_pandas()
    for column, feature in split.features.items():
        names = getattr(feature, "names", None)
        if names:
            table[column] = [names[index] if index >= 0 else None for index in table[column]]
    return table


def _rows(table: Any, source: DataSource, where: str) -> Rows:
    label = _column(table, source.label_column, LABEL_COLUMNS, "label", where)
    text = _column(table, source.text_column, TEXT_COLUMNS, "text", where)
    pair = source.pair_column
    if pair is None and source.text_column is None:
        pair = next((name for name in PAIR_COLUMNS if name in table.columns), None)
    if pair is not None:
        pair = _column(table, pair, (), "pair", where)
    empty = table[label].isna()
    if empty.any():
        raise InputError(f"{where}: {int(empty.sum())} rows have no label in column {label!r}")
    pairs = [str(value) for value in table[pair]] if pair is not None else None
    return Rows([str(value) for value in table[text]], pairs, table[label].tolist())


def _column(table: Any, named: str | None, usual: tuple[str, ...], kind: str, where: str) -> str:
    found = [named] if named is not None else [name for name in usual if name in table.columns]
    if not found or found[0] not in table.columns:
        wanted = repr(named) if named is not None else f"{kind} (one of {', '.join(usual)})"
        raise InputError(
            f"{where} has no column {wanted}; it has {', '.join(map(str, table.columns))}. Name it with --{kind}-column"
        )
    return str(found[0])


def _hash_share(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
