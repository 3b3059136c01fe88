"""From a table's columns to rows, by task: columns are found by their usual names or named by the user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from finegates_export.common.tasks import task_of
from finegates_export.common.tasks.columns import UsualColumns
from finegates_export.errors import InputError
from finegates_trainer.data.answers import answers_of
from finegates_trainer.data.cells import LISTS, number_of, refuse_odd
from finegates_trainer.data.gaps import refuse_gaps, refuse_missing
from finegates_trainer.data.generation import generation_rows
from finegates_trainer.data.rows import DataSource, Rows
from finegates_trainer.data.spelled import spelled_list, words_between_commas
from finegates_trainer.data.tables import place

A_LABEL = "one label is expected; give one name or number, or train with --task multi-label"
SOME_LABELS = "names or numbers are expected; correct or remove it"
A_SCORE = "a finite number is expected; correct or remove it"
A_TEXT = "a text is expected; give one, or name another column with --text-column"


def rows_of(table: Any, source: DataSource, where: str) -> Rows:
    """The rows of a table.

    Raises:
        InputError: a column is missing, a row has no text or no label, or a value does not fit the task; the message
            names file, line and column.
    """
    where = table.attrs.get("file", where)  # a folder may have several
    return READERS[source.task](table, source, where)


@dataclass(frozen=True)
class _Columns:
    """The columns of a table that hold a task's rows."""

    text: str
    pair: str | None
    label: str


def _columns(table: Any, source: DataSource, where: str, *, blank: bool) -> _Columns:
    usual = task_of(source.task).columns
    label = _column(table, source.label_column, usual.label, "label", where)
    text = _column(table, source.text_column, usual.text, "text", where)
    pair = _pair_column(table, source, usual, where)
    refuse_missing(table, label, "label", where, blank=blank)
    return _Columns(text, pair, label)


def _scored_texts(table: Any, source: DataSource, where: str) -> Rows:
    """Texts or pairs, and a number for each."""
    columns = _columns(table, source, where, blank=True)
    texts, pairs = _text_pairs(table, columns, where)
    refuse_odd(table, columns.label, A_SCORE, where)
    scores = table[columns.label].tolist()
    for number, score in enumerate(scores):
        if number_of(score) is None:
            raise InputError(
                f"{place(table, number, where)} has the score {score!r:.60} in column {columns.label!r}, but {A_SCORE}"
            )
    return Rows(texts, pairs, scores)


def _one_label(table: Any, source: DataSource, where: str) -> Rows:
    columns = _columns(table, source, where, blank=True)
    texts, pairs = _text_pairs(table, columns, where)
    refuse_odd(table, columns.label, A_LABEL, where)
    labels = table[columns.label].tolist()
    for number, label in enumerate(labels):
        if isinstance(label, str) and _is_spelled_list(label):
            raise InputError(
                f"{place(table, number, where)} has the list {label!r:.60} in column {columns.label!r}, but {A_LABEL}"
            )
    return Rows(texts, pairs, labels)


def _several_labels(table: Any, source: DataSource, where: str) -> Rows:
    columns = _columns(table, source, where, blank=False)
    texts, pairs = _text_pairs(table, columns, where)
    refuse_odd(table, columns.label, SOME_LABELS, where, lists=True)
    labels = []
    for number, value in enumerate(table[columns.label]):
        try:
            labels.append(_several(value))
        except ValueError as error:
            raise InputError(
                f"{place(table, number, where)} has {value!r:.60} in column {columns.label!r}, which {error}; give a "
                'list as JSON, ["a", "b"], or words between commas'
            ) from error
    refuse_gaps(table, columns.label, labels, where, blank=True)
    return Rows(texts, pairs, labels)


def _questions(table: Any, source: DataSource, where: str) -> Rows:
    columns = _columns(table, source, where, blank=False)
    texts, pairs = _text_pairs(table, columns, where)
    return Rows(texts, pairs, answers_of(table, columns.label, pairs or [], where))


def _tagged_words(table: Any, source: DataSource, where: str) -> Rows:
    columns = _columns(table, source, where, blank=True)
    words, tags = _lists(table, columns.text, where), _lists(table, columns.label, where)
    refuse_gaps(table, columns.text, words, where)
    refuse_gaps(table, columns.label, tags, where, blank=True)
    for number, (some, others) in enumerate(zip(words, tags, strict=True)):
        if not some:
            raise InputError(f"{place(table, number, where)} has no words in column {columns.text!r}; remove it")
        if len(some) != len(others):
            raise InputError(
                f"{place(table, number, where)} has {len(some)} words but {len(others)} tags; give one tag per word"
            )
    return Rows([[str(word) for word in some] for some in words], None, tags)


def _text_pairs(table: Any, columns: _Columns, where: str) -> tuple[list[str], list[str] | None]:
    pairs = _texts(table, columns.pair, where) if columns.pair is not None else None
    return _texts(table, columns.text, where), pairs


def _pair_column(table: Any, source: DataSource, usual: UsualColumns, where: str) -> str | None:
    if source.pair_column is not None:
        return _column(table, source.pair_column, (), "pair", where)
    if usual.needs_pair:
        return _column(table, None, usual.pair, "pair", where)
    if source.text_column is not None:
        return None
    return next((name for name in usual.pair if name in table.columns), None)


def _column(table: Any, named: str | None, usual: tuple[str, ...], kind: str, where: str) -> str:
    found = [named] if named is not None else [name for name in usual if name in table.columns]
    if not found or found[0] not in table.columns:
        wanted = repr(named) if named is not None else f"{kind} (one of {', '.join(usual)})"
        raise InputError(
            f"{where} has no column {wanted}; it has {', '.join(map(str, table.columns))}. Name it with --{kind}-column"
        )
    return str(found[0])


def _texts(table: Any, column: str, where: str) -> list[str]:
    refuse_missing(table, column, "text", where, blank=True)
    refuse_odd(table, column, A_TEXT, where)
    return [str(value) for value in table[column]]


def _several(value: Any) -> list[Any]:
    """The labels of a row: a list, a list that is spelled as text, or words between commas.

    Raises:
        ValueError: a text that looks like a list but cannot be read as one.
    """
    if not isinstance(value, str):
        return _entries(value) if isinstance(value, LISTS) else [value]
    listed = spelled_list(value)
    return words_between_commas(value) if listed is None else listed


def _entries(value: Any) -> list[Any]:
    """A list's entries as Python's own types."""
    return value if isinstance(value, list) else list(value.tolist())


def _is_spelled_list(label: str) -> bool:
    try:
        return spelled_list(label) is not None
    except ValueError:
        return False  # a name may begin with a bracket


def _lists(table: Any, column: str, where: str) -> list[list[Any]]:
    lists = []
    for number, value in enumerate(table[column]):
        if not isinstance(value, LISTS):
            raise InputError(
                f"{place(table, number, where)} has {value!r:.60} in column {column!r}, token classification reads a "
                "list there; use JSONL or Parquet"
            )
        lists.append(_entries(value))
    return lists


READERS: dict[str, Callable[[Any, DataSource, str], Rows]] = {
    "classification": _one_label,
    "multi-label": _several_labels,
    "regression": _scored_texts,
    "token-classification": _tagged_words,
    "question-answering": _questions,
    "feature-extraction": _scored_texts,
    "embedding": _scored_texts,
    "text-generation": generation_rows,
    "reranking": _scored_texts,
}
"""How each task that reads text takes its rows from a table."""
