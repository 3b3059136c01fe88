"""From a graph's outputs to answers, task by task.

Shapes: B rows, S tokens, C labels, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from finegates_export.common.pooling import Pooling, pool
from finegates_export.common.tasks import END, HIDDEN, LOGITS, SENTENCE, START, Task, Unit
from finegates_export.runtime.predictions import Answer, LabelSet, Prediction, Result, Word
from finegates_export.runtime.reading import CONTEXT, Row

Array = npt.NDArray[Any]
Outputs = dict[str, Array]
LONGEST_ANSWER = 30
"""Tokens of an answer at most."""


@dataclass(frozen=True)
class Decoder:
    """What it takes to read outputs.

    Args:
        task: what was trained.
        labels: label names in the order of the logits; empty where the task has none.
        pooling: how an embedding is made; None for other tasks.
    """

    task: Task
    labels: tuple[str, ...]
    pooling: Pooling | None

    def decode(self, outputs: Outputs, rows: Sequence[Row]) -> list[Any]:
        """What each row of a call says."""
        return _DECODERS[self.task.unit](self, outputs, rows)

    def join(self, found: Sequence[Any], rows: Sequence[Row]) -> list[Result]:
        """An answer for every input, from what its rows say: of a text's windows, the best one's.

        Args:
            found: what `decode` gave, row by row.
            rows: those rows, in the order of the inputs.
        """
        if self.task.unit != "span":
            return list(found)
        best: dict[int, tuple[float, Answer]] = {}
        for (value, answer), row in zip(found, rows, strict=True):
            if row.owner not in best or value > best[row.owner][0]:
                best[row.owner] = (value, answer)
        return [answer for _, answer in best.values()]


def _rows(decoder: Decoder, outputs: Outputs, _rows_read: Sequence[Row]) -> list[Result]:
    probabilities_BC = _softmax(outputs[LOGITS])
    return [
        Prediction(decoder.labels[int(row.argmax())], float(row.max()), _named(decoder, row))
        for row in probabilities_BC
    ]


def _scores(_decoder: Decoder, outputs: Outputs, _rows_read: Sequence[Row]) -> list[Result]:
    return [Prediction(None, float(row[0]), {}) for row in outputs[LOGITS]]


def _label_sets(decoder: Decoder, outputs: Outputs, _rows_read: Sequence[Row]) -> list[Result]:
    logits_BC = outputs[LOGITS]
    probabilities_BC = 1 / (1 + np.exp(-logits_BC))
    chosen = [tuple(name for name, logit in zip(decoder.labels, row, strict=True) if logit > 0) for row in logits_BC]
    return [LabelSet(names, _named(decoder, row)) for names, row in zip(chosen, probabilities_BC, strict=True)]


def _words(decoder: Decoder, outputs: Outputs, rows: Sequence[Row]) -> list[Result]:
    results: list[Result] = []
    for logits_SC, row in zip(outputs[LOGITS], rows, strict=True):
        probabilities_SC, given = _softmax(logits_SC), row.given
        words: list[Word] = []
        for number, first in _first_tokens(row.tokens).items():
            if isinstance(given, str):
                text, start, end = _stripped(given, *row.tokens.word_to_chars(number))
                if not text:  # to bytes, a space in front of a space is a word of its own
                    continue
                place = len(words)
            else:
                text, start, end, place = given[number], 0, len(given[number]), number
            best = int(probabilities_SC[first].argmax())
            words.append(Word(text, decoder.labels[best], float(probabilities_SC[first, best]), start, end, place))
        results.append(tuple(words))
    return results


def _first_tokens(encoding: Any) -> dict[int, int]:
    """The first token of every word of the text, special tokens apart."""
    first: dict[int, int] = {}
    for token, number in enumerate(encoding.word_ids):
        if number is not None:
            first.setdefault(number, token)
    return first


def _answers(_decoder: Decoder, outputs: Outputs, rows: Sequence[Row]) -> list[tuple[float, Answer]]:
    """Of each row the best answer in it, and the logits' sum that it is compared by with those of other windows."""
    found = []
    for number, row in enumerate(rows):
        context = np.array([sequence == CONTEXT for sequence in row.tokens.sequence_ids])
        if not context.any():
            found.append((-np.inf, Answer("", 0.0, 0, 0)))
            continue
        start_S, end_S = (
            np.where(context, outputs[name][number, : row.length].astype(np.float64), -np.inf) for name in (START, END)
        )
        together_SS = np.where(_in_order(row.length), start_S[:, None] + end_S[None, :], -np.inf)
        first, last = (int(i) for i in np.unravel_index(together_SS.argmax(), together_SS.shape))
        start, end = row.tokens.offsets[first][0], row.tokens.offsets[last][1]
        score = float(_softmax(start_S)[first] * _softmax(end_S)[last])
        text, start, end = _stripped(row.given[1], start, end)
        found.append((float(together_SS[first, last]), Answer(text, score, start, end)))
    return found


def _stripped(given: str, start: int, end: int) -> tuple[str, int, int]:
    """A part of a text without the whitespace around it, which some tokenizers count to a word, and its place."""
    text = given[start:end].rstrip()
    end = start + len(text)
    text = text.lstrip()
    return text, end - len(text), end


def _in_order(length: int) -> npt.NDArray[np.bool_]:
    """Which pairs of first and last token are an answer."""
    distance = np.arange(length)[None, :] - np.arange(length)[:, None]
    return (distance >= 0) & (distance < LONGEST_ANSWER)


def _vectors(decoder: Decoder, outputs: Outputs, rows: Sequence[Row]) -> list[Result]:
    if SENTENCE in outputs:
        return list(outputs[SENTENCE])
    hidden_BSD = outputs[HIDDEN]
    attended_BS = np.ones(hidden_BSD.shape[:2], bool)
    for number, row in enumerate(rows):
        attended_BS[number, row.length :] = False
    if decoder.pooling is not None:
        return list(pool(hidden_BSD, attended_BS, decoder.pooling))
    return [tokens_SD[mask_S] for tokens_SD, mask_S in zip(hidden_BSD, attended_BS, strict=True)]


def _softmax(logits: Array) -> Array:
    shifted = np.exp(logits - logits.max(-1, keepdims=True, initial=-np.inf))
    return shifted / shifted.sum(-1, keepdims=True)


def _named(decoder: Decoder, values_C: Array) -> dict[str, float]:
    return {label: float(value) for label, value in zip(decoder.labels, values_C, strict=True)}


_DECODERS: dict[Unit, Callable[[Decoder, Outputs, Sequence[Row]], list[Any]]] = {
    "row": _rows, "label": _label_sets, "score": _scores, "token": _words, "span": _answers, "vector": _vectors,
}  # fmt: skip
