"""From rows to examples, task by task: a word's label goes to its first token, an answer becomes its tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from finegates_export.common.tasks import NO_LABEL, Task, task_of
from finegates_export.common.tasks.question_answering import CONTEXT
from finegates_export.errors import InputError, UnsupportedError
from finegates_trainer.data import Rows
from finegates_trainer.data.continuations import continuation_examples
from finegates_trainer.data.examples import Encoded, Examples, ImageExamples, PairExamples, TextExamples


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
    return EXAMPLES[task](Reading(task_of(task), preprocessor, max_length, names), rows, labels)


@dataclass(frozen=True)
class Reading:
    """How rows are read."""

    task: Task
    preprocessor: Any
    """The base's tokenizer, or its image processor."""
    max_length: int
    names: tuple[str, ...]
    """The inputs of the model's graph."""

    @property
    def pad_id(self) -> int:
        """Id of the padding token."""
        return self.preprocessor.pad_token_id or 0

    def encode(self, *texts: list[Any] | None, **settings: Any) -> Any:
        """The tokenizer's columns, truncated to the maximum length."""
        return self.preprocessor(*texts, **{"truncation": True, "max_length": self.max_length, **settings})


def _images(reading: Reading, rows: Rows, labels: list[Any]) -> Examples:
    return ImageExamples(rows.texts, labels, reading.preprocessor)


def _texts(reading: Reading, rows: Rows, labels: list[Any]) -> Examples:
    """Texts, or pairs read together."""
    encoded = reading.encode(rows.texts, rows.pairs, padding=False)
    return TextExamples(model_rows(encoded, reading.names), labels, reading.pad_id, reading.task)


def _queries(reading: Reading, rows: Rows, labels: list[Any]) -> Examples:
    """Pairs read together; those with the same first text form a group."""
    numbers = {text: number for number, text in enumerate(dict.fromkeys(rows.texts))}
    encoded = reading.encode(rows.texts, rows.pairs, padding=False)
    groups = [numbers[text] for text in rows.texts]
    return TextExamples(model_rows(encoded, reading.names), labels, reading.pad_id, reading.task, groups=groups)


def _pairs(reading: Reading, rows: Rows, labels: list[Any]) -> Examples:
    """Pairs whose texts are read separately."""
    first, second = reading.encode(rows.texts), reading.encode(rows.pairs)
    return PairExamples(model_rows(first, reading.names), model_rows(second, reading.names), labels, reading.pad_id)


def _continuations(reading: Reading, rows: Rows, _labels: list[Any]) -> Examples:
    return continuation_examples(reading.preprocessor, rows, reading.max_length, reading.names, reading.pad_id)


def _tagged(reading: Reading, rows: Rows, labels: list[list[int]]) -> Examples:
    """A word's label goes to its first token."""
    _check_places(reading)
    encoded = reading.encode(rows.texts, is_split_into_words=True)
    per_token = []
    for i, tags in enumerate(labels):
        words = encoded.word_ids(i)
        firsts = [word is not None and word != before for word, before in zip(words, [None, *words], strict=False)]
        per_token.append([tags[word] if first else NO_LABEL for word, first in zip(words, firsts, strict=True)])
    return TextExamples(model_rows(encoded, reading.names), per_token, reading.pad_id, reading.task)


def _questions(reading: Reading, rows: Rows, labels: list[tuple[str, int]]) -> Examples:
    """Answers as first and last token; rows whose answer was truncated are dropped."""
    _check_places(reading)
    try:
        encoded = reading.encode(rows.texts, rows.pairs, truncation="only_second", return_offsets_mapping=True)
    except Exception as error:  # tokenizers raises plain Exception
        raise InputError(
            f"a question fills the row of {reading.max_length} tokens ({error}); raise --max-length"
        ) from error
    inputs = model_rows(encoded, reading.names)
    spans = []
    for i, (text, start) in enumerate(labels):
        context = [number == CONTEXT for number in encoded.sequence_ids(i)]
        span = _span(encoded["offset_mapping"][i], context, start, start + len(text))
        spans.append(span if span and _begins(encoded["offset_mapping"][i][span[0]], text, start) else None)
    kept = [i for i, span in enumerate(spans) if span is not None]
    if not kept:
        raise InputError(
            f"all {len(labels)} answers lie beyond the first {reading.max_length} tokens; raise --max-length"
        )
    own = [inputs[i] for i in kept], [spans[i] for i in kept]
    return TextExamples(*own, reading.pad_id, reading.task, len(spans) - len(kept))


def _begins(offset: tuple[int, int], answer: str, start: int) -> bool:
    """Whether an answer's first token has its first letter: a text that loses its first tokens may lack it."""
    return not answer[: max(0, offset[0] - start)].strip()


def _check_places(reading: Reading) -> None:
    if not reading.preprocessor.is_fast:
        raise UnsupportedError(
            f"{reading.task.name} needs a tokenizer with token offsets (tokenizer.json); this base has only "
            f"{type(reading.preprocessor).__name__}"
        )


def _span(offsets: list[tuple[int, int]], context: list[bool], start: int, end: int) -> tuple[int, int] | None:
    """The first and last token of the characters from `start` to `end`; None if the text ends before."""
    own = [token for token, inside in enumerate(context) if inside]
    if not own or offsets[own[-1]][1] < end:
        return None
    touching = [token for token in own if offsets[token][1] > start and offsets[token][0] < end]
    return (touching[0], touching[-1]) if touching else None


def model_rows(encoded: Any, names: tuple[str, ...]) -> list[Encoded]:
    """The tokenizer's columns row by row, with the inputs that the model's graph has."""
    rows = []
    for i in range(len(encoded["input_ids"])):
        row = {name: list(encoded[name][i]) for name in names if name in encoded}
        if "token_type_ids" in names:
            row.setdefault("token_type_ids", [0] * len(row["input_ids"]))
        rows.append(row)
    return rows


EXAMPLES: dict[str, Callable[[Reading, Rows, list[Any]], Examples]] = {
    "classification": _texts,
    "multi-label": _texts,
    "regression": _texts,
    "token-classification": _tagged,
    "question-answering": _questions,
    "feature-extraction": _pairs,
    "embedding": _pairs,
    "image-classification": _images,
    "text-generation": _continuations,
    "reranking": _queries,
}
"""How each task turns rows into examples."""
