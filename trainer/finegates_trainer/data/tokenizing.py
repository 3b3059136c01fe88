"""From rows to examples, task by task: words to their first pieces, answers to their tokens."""

from __future__ import annotations

from typing import Any

from finegates_export.common.tasks import NO_LABEL, task_of
from finegates_export.errors import InputError, UnsupportedError
from finegates_trainer.data import Rows
from finegates_trainer.data.continuations import continuation_examples
from finegates_trainer.data.examples import Encoded, Examples, ImageExamples, PairExamples, TextExamples

CONTEXT = 1
"""The sequence number of the text in a pair of question and text."""


def make_examples(
    task: str, preprocessor: Any, rows: Rows, labels: list[Any], max_length: int, names: tuple[str, ...]
) -> Examples:
    """Rows as the model reads them.

    Args:
        task: a name of `TASKS`.
        preprocessor: the base's tokenizer, or its image processor.
        rows: what to read.
        labels: the rows' labels, of `encode_labels`.
        max_length: maximum tokens per row; of a question and its text, only the text is truncated.
        names: the inputs of the model's graph.

    Raises:
        InputError: every answer was truncated, or rows lack their second text.
        UnsupportedError: words or answers with a tokenizer without token offsets.
    """
    kind = task_of(task)
    if kind.images:
        return ImageExamples(rows.texts, labels, preprocessor)
    pad_id = preprocessor.pad_token_id or 0
    if kind.unit == "next":
        return continuation_examples(preprocessor, rows, max_length, names, pad_id)
    if kind.unit in ("token", "span") and not preprocessor.is_fast:
        raise UnsupportedError(
            f"{task} needs a tokenizer with token offsets (tokenizer.json); this base has only "
            f"{type(preprocessor).__name__}"
        )
    if kind.unit == "token":
        return _tagged(preprocessor, rows, labels, max_length, names, pad_id)
    if kind.unit == "span":
        return _questions(preprocessor, rows, labels, max_length, names, pad_id)
    if kind.unit == "vector":
        first = preprocessor(rows.texts, truncation=True, max_length=max_length)
        second = preprocessor(rows.pairs, truncation=True, max_length=max_length)
        return PairExamples(_rows(first, names), _rows(second, names), labels, pad_id)
    encoded = preprocessor(rows.texts, rows.pairs, truncation=True, max_length=max_length, padding=False)
    return TextExamples(_rows(encoded, names), labels, pad_id, kind.unit)


def _tagged(
    tokenizer: Any, rows: Rows, labels: list[list[int]], max_length: int, names: tuple[str, ...], pad_id: int
) -> TextExamples:
    """A word's label goes to its first token."""
    encoded = tokenizer(rows.texts, is_split_into_words=True, truncation=True, max_length=max_length)
    per_token = []
    for i, tags in enumerate(labels):
        words = encoded.word_ids(i)
        firsts = [word is not None and word != before for word, before in zip(words, [None, *words], strict=False)]
        per_token.append([tags[word] if first else NO_LABEL for word, first in zip(words, firsts, strict=True)])
    return TextExamples(_rows(encoded, names), per_token, pad_id, "token")


def _questions(
    tokenizer: Any, rows: Rows, labels: list[tuple[str, int]], max_length: int, names: tuple[str, ...], pad_id: int
) -> TextExamples:
    """Answers as first and last token; rows whose answer was truncated are dropped."""
    try:
        encoded = tokenizer(
            rows.texts, rows.pairs, truncation="only_second", max_length=max_length, return_offsets_mapping=True
        )
    except Exception as error:  # tokenizers raises plain Exception
        raise InputError(f"a question fills the row of {max_length} tokens ({error}); raise --max-length") from error
    inputs = _rows(encoded, names)
    spans = []
    for i, (text, start) in enumerate(labels):
        context = [number == CONTEXT for number in encoded.sequence_ids(i)]
        spans.append(_span(encoded["offset_mapping"][i], context, start, start + len(text)))
    kept = [i for i, span in enumerate(spans) if span is not None]
    if not kept:
        raise InputError(f"all {len(labels)} answers lie beyond the first {max_length} tokens; raise --max-length")
    return TextExamples([inputs[i] for i in kept], [spans[i] for i in kept], pad_id, "span", len(spans) - len(kept))


def _span(offsets: list[tuple[int, int]], context: list[bool], start: int, end: int) -> tuple[int, int] | None:
    """The first and last token of the characters from `start` to `end`; None if the text ends before."""
    own = [token for token, inside in enumerate(context) if inside]
    if not own or offsets[own[-1]][1] < end:
        return None
    touching = [token for token in own if offsets[token][1] > start and offsets[token][0] < end]
    return (touching[0], touching[-1]) if touching else None


def _rows(encoded: Any, names: tuple[str, ...]) -> list[Encoded]:
    """The tokenizer's columns row by row, with the inputs that the model's graph has."""
    rows = []
    for i in range(len(encoded["input_ids"])):
        row = {name: list(encoded[name][i]) for name in names if name in encoded}
        if "token_type_ids" in names:
            row.setdefault("token_type_ids", [0] * len(row["input_ids"]))
        rows.append(row)
    return rows
