"""From a graph's outputs to answers, task by task.

Shapes: B rows, S tokens, C labels, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from finegates_export.pooling import Pooling, pool
from finegates_export.runtime.predictions import Answer, LabelSet, Prediction, Result, Word
from finegates_export.runtime.reading import CONTEXT, Read
from finegates_export.tasks import END, HIDDEN, LOGITS, SENTENCE, START, Task, Unit

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

    def decode(self, outputs: Outputs, read: Read) -> list[Result]:
        """An answer for every item that was read."""
        return _DECODERS[self.task.unit](self, outputs, read)


def _rows(decoder: Decoder, outputs: Outputs, _read: Read) -> list[Result]:
    probabilities_BC = _softmax(outputs[LOGITS])
    return [
        Prediction(decoder.labels[int(row.argmax())], float(row.max()), _named(decoder, row))
        for row in probabilities_BC
    ]


def _scores(_decoder: Decoder, outputs: Outputs, _read: Read) -> list[Result]:
    return [Prediction(None, float(row[0]), {}) for row in outputs[LOGITS]]


def _label_sets(decoder: Decoder, outputs: Outputs, _read: Read) -> list[Result]:
    logits_BC = outputs[LOGITS]
    probabilities_BC = 1 / (1 + np.exp(-logits_BC))
    chosen = [tuple(name for name, logit in zip(decoder.labels, row, strict=True) if logit > 0) for row in logits_BC]
    return [LabelSet(names, _named(decoder, row)) for names, row in zip(chosen, probabilities_BC, strict=True)]


def _words(decoder: Decoder, outputs: Outputs, read: Read) -> list[Result]:
    results: list[Result] = []
    for logits_SC, encoding, given in zip(outputs[LOGITS], read.encodings, read.given, strict=True):
        probabilities_SC = _softmax(logits_SC)
        words = []
        for number, first in _first_tokens(encoding).items():
            start, end = (0, len(given[number])) if not isinstance(given, str) else encoding.word_to_chars(number)
            text = given[start:end] if isinstance(given, str) else given[number]
            best = int(probabilities_SC[first].argmax())
            words.append(Word(text, decoder.labels[best], float(probabilities_SC[first, best]), start, end))
        results.append(tuple(words))
    return results


def _first_tokens(encoding: Any) -> dict[int, int]:
    """The first token of every word of the text, special tokens apart."""
    first: dict[int, int] = {}
    for token, number in enumerate(encoding.word_ids):
        if number is not None:
            first.setdefault(number, token)
    return first


def _answers(_decoder: Decoder, outputs: Outputs, read: Read) -> list[Result]:
    best: dict[int, tuple[float, Answer]] = {}
    for row, encoding in enumerate(read.encodings):
        length = len(encoding.ids)
        context = np.array([sequence == CONTEXT for sequence in encoding.sequence_ids])
        start_S, end_S = (
            np.where(context, outputs[name][row, :length].astype(np.float64), -np.inf) for name in (START, END)
        )
        if not context.any():
            continue
        together_SS = np.where(_in_order(length), start_S[:, None] + end_S[None, :], -np.inf)
        first, last = (int(i) for i in np.unravel_index(together_SS.argmax(), together_SS.shape))
        start, end = encoding.offsets[first][0], encoding.offsets[last][1]
        score = float(_softmax(start_S)[first] * _softmax(end_S)[last])
        owner = read.owner[row]
        value = float(together_SS[first, last])
        if owner not in best or value > best[owner][0]:
            best[owner] = (value, Answer(read.given[owner][1][start:end], score, start, end))
    return [best[i][1] if i in best else Answer("", 0.0, 0, 0) for i in range(len(read.given))]


def _in_order(length: int) -> npt.NDArray[np.bool_]:
    """Which pairs of first and last token are an answer."""
    distance = np.arange(length)[None, :] - np.arange(length)[:, None]
    return (distance >= 0) & (distance < LONGEST_ANSWER)


def _vectors(decoder: Decoder, outputs: Outputs, read: Read) -> list[Result]:
    if SENTENCE in outputs:
        return list(outputs[SENTENCE])
    hidden_BSD = outputs[HIDDEN]
    attended_BS = np.ones(hidden_BSD.shape[:2], bool)
    for row, encoding in enumerate(read.encodings):
        attended_BS[row, len(encoding.ids) :] = False
    if decoder.pooling is not None:
        return list(pool(hidden_BSD, attended_BS, decoder.pooling))
    return [tokens_SD[mask_S] for tokens_SD, mask_S in zip(hidden_BSD, attended_BS, strict=True)]


def _softmax(logits: Array) -> Array:
    shifted = np.exp(logits - logits.max(-1, keepdims=True, initial=-np.inf))
    return shifted / shifted.sum(-1, keepdims=True)


def _named(decoder: Decoder, values_C: Array) -> dict[str, float]:
    return {label: float(value) for label, value in zip(decoder.labels, values_C, strict=True)}


_DECODERS: dict[Unit, Callable[[Decoder, Outputs, Read], list[Result]]] = {
    "row": _rows, "label": _label_sets, "score": _scores, "token": _words, "span": _answers, "vector": _vectors,
}  # fmt: skip
