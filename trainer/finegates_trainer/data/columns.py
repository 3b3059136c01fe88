"""From a table's columns to rows, by task: columns are found by their usual names or named by the user."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from finegates_export.common.tasks import task_of
from finegates_export.errors import InputError
from finegates_trainer.data.answers import answers_of
from finegates_trainer.data.gaps import LISTS, refuse_gaps, refuse_missing, refuse_several
from finegates_trainer.data.generation import generation_rows
from finegates_trainer.data.rows import DataSource, Rows
from finegates_trainer.data.tables import place

TEXT_COLUMNS = ("sentence", "text", "sentence1", "premise", "question1", "question", "content", "review")
PAIR_COLUMNS = ("sentence2", "hypothesis", "question2", "text2", "text_pair")
LABEL_COLUMNS = ("label", "labels", "score", "target", "class", "stars", "similarity")


@dataclass(frozen=True)
class UsualColumns:
    """Usual columns of a task's rows."""

    text: tuple[str, ...]
    pair: tuple[str, ...]
    label: tuple[str, ...]
    needs_pair: bool = False


PLAIN = UsualColumns(TEXT_COLUMNS, PAIR_COLUMNS, LABEL_COLUMNS)
USUAL = {
    "multi-label": UsualColumns(TEXT_COLUMNS, PAIR_COLUMNS, ("labels", "label", "tags", "classes")),
    "token-classification": UsualColumns(("tokens", "words"), (), ("tags", "labels", "ner_tags", "pos_tags")),
    "question-answering": UsualColumns(("question",), ("context", "passage"), ("answers", "answer"), needs_pair=True),
    "embedding": UsualColumns(TEXT_COLUMNS, PAIR_COLUMNS, ("score", "label", "similarity"), needs_pair=True),
}
"""For tasks other than plain text with a label."""


def rows_of(table: Any, source: DataSource, where: str) -> Rows:
    """The rows of a table.

    Raises:
        InputError: a column is missing, a row has no text or no label, or a value does not fit the task.
    """
    unit = task_of(source.task).unit
    where = table.attrs.get("file", where)  # a folder may have several
    if unit == "next":
        return generation_rows(table, source, where)
    usual = USUAL.get(source.task, PLAIN)
    label = _column(table, source.label_column, usual.label, "label", where)
    text = _column(table, source.text_column, usual.text, "text", where)
    pair = _pair_column(table, source, usual, where)
    refuse_missing(table, label, "label", where, blank=unit not in ("label", "span"))
    if unit == "token":
        return _tagged_words(table, text, label, where)
    pairs = _texts(table, pair, where) if pair is not None else None
    texts = _texts(table, text, where)
    if unit == "span":
        return Rows(texts, pairs, answers_of(table, label, pairs or [], where))
    labels = table[label].tolist()
    if unit == "label":
        labels = [_several(value) for value in labels]
        refuse_gaps(table, label, labels, where, blank=True)
    elif unit == "row":
        refuse_several(table, label, where)
    return Rows(texts, pairs, labels)


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
    refuse_missing(table, column, "text", where)
    return [str(value) for value in table[column]]


def _several(value: Any) -> list[Any]:
    """The labels of a row: a list, a list as JSON, or comma-separated words."""
    if not isinstance(value, str):
        return list(value) if isinstance(value, LISTS) else [value]
    if value.strip().startswith("["):
        try:
            return list(json.loads(value))
        except ValueError:
            pass  # a label may start with a bracket
    return [part.strip() for part in value.split(",") if part.strip()]


def _lists(table: Any, column: str, where: str) -> list[list[Any]]:
    lists = []
    for number, value in enumerate(table[column]):
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise InputError(
                f"{place(table, number, where)} has {value!r} in column {column!r}, token classification reads a list "
                "there; use JSONL or Parquet"
            )
        lists.append(list(value))
    return lists


def _tagged_words(table: Any, text: str, label: str, where: str) -> Rows:
    words, tags = _lists(table, text, where), _lists(table, label, where)
    refuse_gaps(table, text, words, where)
    refuse_gaps(table, label, tags, where, blank=True)
    for number, (some, others) in enumerate(zip(words, tags, strict=True)):
        if len(some) != len(others):
            raise InputError(
                f"{place(table, number, where)} has {len(some)} words but {len(others)} tags; give one tag per word"
            )
    return Rows([[str(word) for word in some] for some in words], None, tags)
