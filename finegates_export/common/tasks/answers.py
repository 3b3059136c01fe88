"""What a task answers for one row, and the tensors in which a server sends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt


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
    """The answer for one text that may have any number of labels."""

    labels: tuple[str, ...]
    """Those of a probability above one half."""
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
    """Where the word starts, in characters of the text; 0 where the text was given as a list of words."""
    end: int
    """Where it ends."""
    number: int
    """Which word of the text it is, from 0; of a list, which of the words given. Those of which the tokenizer makes no
    token, and those behind the longest length that the model reads, have no answer."""


@dataclass(frozen=True)
class Answer:
    """The answer to a question, as it stands in the text."""

    text: str
    score: float
    """Probability of its first token times that of its last."""
    start: int
    """Where it starts, in characters of the text."""
    end: int
    """Where it ends."""


Result = Prediction | LabelSet | tuple[Word, ...] | Answer | npt.NDArray[Any]
"""One row's answer: of classification, regression and reranking, of multi-label, of token classification, of question
answering; an embedding is a vector, features are a matrix with a row for every token."""


@dataclass(frozen=True)
class AnswerTensor:
    """One tensor of a server's answer."""

    name: str
    text: bool = False
    """Whether it holds strings; float32 otherwise."""
    width: int | None = None
    """Values a row; None for one value a row, `ANY_WIDTH` where the graph decides."""


ANY_WIDTH = -1
STRING = {"type": "string"}
NUMBER = {"type": "number"}
SCORES = {"type": "object", "additionalProperties": NUMBER}
"""JSON schemas of what an answer's fields hold."""
