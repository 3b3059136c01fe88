"""What a predictor returns, by task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from finegates_export.common.files import JsonObject
from finegates_export.common.tasks.arrays import Array


@dataclass(frozen=True)
class Prediction:
    """The answer for one text, pair or image: a label, or a score."""

    label: str | None
    """The most probable label; None for regression and reranking."""
    score: float
    """Its probability; the predicted value for regression and reranking."""
    scores: dict[str, float]
    """Probability of every label; empty for regression and reranking."""


@dataclass(frozen=True)
class LabelSet:
    """The answer for one text with any number of labels."""

    labels: tuple[str, ...]
    """The labels with probability above one half."""
    scores: dict[str, float]
    """Probability of every label."""


@dataclass(frozen=True)
class Word:
    """A word of a text and its label."""

    text: str
    label: str
    score: float
    """The label's probability at the word's first token."""
    start: int
    """Start of the word, in characters of the text; 0 if the text was given as a list of words."""
    end: int
    """Its end, in characters of the text."""
    number: int
    """The word's number in the text or the given list, from 0. Words without a token, or beyond the model's
    maximum length, have no answer."""


@dataclass(frozen=True)
class Entity:
    """Words of a text that name one thing, and what it is."""

    text: str
    label: str
    """Its kind: `PER` of words that are labelled `B-PER` and `I-PER`."""
    score: float
    """The mean of the words' scores."""
    start: int
    """Its start, in characters of the text; 0 if the text was given as a list of words."""
    end: int
    """Its end, in characters of the text."""
    first: int
    """The number of its first word; see `Word.number`."""
    last: int
    """The number of its last word."""


@dataclass(frozen=True)
class TaggedText(Sequence[Word]):
    """The answer for one text whose words are labelled; as a sequence, its words."""

    words: tuple[Word, ...]
    entities: tuple[Entity, ...]
    """What the labels mark, in order; empty if they mark none (see `tasks.entities`)."""

    def __len__(self) -> int:
        return len(self.words)

    @overload
    def __getitem__(self, place: int) -> Word: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Word, ...]: ...

    def __getitem__(self, place: int | slice) -> Word | tuple[Word, ...]:
        return self.words[place]


@dataclass(frozen=True)
class Answer:
    """The answer to a question, as a span of the text."""

    text: str
    score: float
    """Probability of its first token times that of its last token."""
    start: int
    """Its start, in characters of the text."""
    end: int
    """Its end, in characters of the text."""


Result = Prediction | LabelSet | TaggedText | Answer | Array
"""One row's answer: of classification, regression and reranking, of multi-label, of token classification, of question
answering; an embedding is a vector, features are a matrix with a row for every token."""


@dataclass(frozen=True)
class AnswerTensor:
    """One tensor of a server's answer."""

    name: str
    text: bool = False
    """Whether it holds strings; float32 otherwise."""
    width: int | None = None
    """Values per row; None for a single value, `ANY_WIDTH` if the graph decides."""


ANY_WIDTH = -1
Schema = JsonObject
"""A JSON schema."""
STRING: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer"}
SCORES: Schema = {"type": "object", "additionalProperties": NUMBER}
"""JSON schemas of an answer's fields."""
