"""Extractive question answering: the part of a text that answers a question.

Shapes: B rows, S tokens, N answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from finegates_export.common.tasks.answers import Answer, Result
from finegates_export.common.tasks.arrays import Array, ModelOutputs, Outputs, RowRead, count_of, softmax, stripped
from finegates_export.common.tasks.columns import UsualColumns
from finegates_export.common.tasks.names import END, HIDDEN, START
from finegates_export.common.tasks.places import PlacesInText
from finegates_export.common.tasks.task import Divergence, LossSettings

if TYPE_CHECKING:
    from torch import Tensor

    from finegates_export.common.tasks.pooling import Pooling

CONTEXT = 1
"""The sequence number of the text in a pair of question and text."""
LONGEST_ANSWER = 30
"""Maximum tokens of an answer."""


def exact_match(truth_N2: Array, predicted_N2: Array) -> float:
    """The share of answers with both ends correct."""
    return float((truth_N2 == predicted_N2).all(-1).mean())


def overlap_f1(truth_N2: Array, predicted_N2: Array) -> float:
    """Mean over the answers of the F1 between their tokens and the predicted ones."""
    common = np.minimum(truth_N2[:, 1], predicted_N2[:, 1]) - np.maximum(truth_N2[:, 0], predicted_N2[:, 0]) + 1
    widths = [np.maximum(spans[:, 1] - spans[:, 0] + 1, 0) for spans in (truth_N2, predicted_N2)]
    return float((2 * np.maximum(common, 0) / (widths[0] + widths[1])).mean())


class QuestionAnswering(PlacesInText):
    """Two softmaxes over the tokens: where the answer begins, and where it ends."""

    name = "question-answering"
    auto_class = "AutoModelForQuestionAnswering"
    architecture = "ForQuestionAnswering"
    output_class = "QuestionAnsweringModelOutput"
    outputs = (START, END)
    per_token = (START, END, HIDDEN)
    takes = "question answering takes pairs (question, text)"
    needs_pair = True
    reads_windows = True
    example = ("a question?", "the text that answers it")
    columns = UsualColumns(("question",), ("context", "passage"), ("answers", "answer"), needs_pair=True)
    splits_by_pair = True
    named_labels = False
    whole_labels = True
    metrics = {"exact_match": exact_match, "f1": overlap_f1}
    gives = "the answer in a text"

    def encode_labels(self, labels: Sequence[object], names: Sequence[str], what: str) -> list[object]:
        """Answers stay unchanged: their tokens are known once the text is tokenized."""
        return list(labels)

    def loss(self, outputs: ModelOutputs, labels: Tensor, settings: LossSettings) -> tuple[Tensor, Tensor]:
        from torch.nn import functional

        start = functional.cross_entropy(outputs.start_logits.float(), labels[:, 0], reduction="sum")
        end = functional.cross_entropy(outputs.end_logits.float(), labels[:, 1], reduction="sum")
        return start + end, count_of(labels)

    def distances(
        self, mine: ModelOutputs, theirs: ModelOutputs, mask_BS: Tensor | None, divergence: Divergence
    ) -> tuple[Tensor, Tensor | None]:
        import torch

        return torch.stack([divergence(getattr(mine, name), getattr(theirs, name)) for name in self.outputs]), None

    def predictions(
        self, outputs: Outputs, mask_BS: Array | None, pooling: Pooling | None = None, labels: Tensor | None = None
    ) -> list[Array]:
        attended = True if mask_BS is None else np.asarray(mask_BS, bool)
        ends = [np.where(attended, outputs[name], -np.inf).argmax(-1) for name in self.outputs]
        return list(np.stack(ends, -1))

    def equal(self, one: Array, other: Array) -> Array:
        return np.asarray((one == other).all(-1))

    def decode(
        self, outputs: Outputs, rows: Sequence[RowRead], labels: Sequence[str], pooling: Pooling | None
    ) -> list[tuple[float, Answer]]:
        """The best answer in each row, and the sum of its logits, which ranks it among the other windows."""
        return [_best(outputs, number, row) for number, row in enumerate(rows)]

    def join(self, found: Sequence[tuple[float, Answer]], rows: Sequence[RowRead]) -> list[Result]:
        """For a text with several windows, the answer of the best one."""
        best: dict[int, tuple[float, Answer]] = {}
        for (value, answer), row in zip(found, rows, strict=True):
            if row.owner not in best or value > best[row.owner][0]:
                best[row.owner] = (value, answer)
        return [answer for _, answer in best.values()]


def _best(outputs: Outputs, number: int, row: RowRead) -> tuple[float, Answer]:
    context = np.array([sequence == CONTEXT for sequence in row.tokens.sequence_ids])
    if not context.any():
        return -np.inf, Answer("", 0.0, 0, 0)
    start_S, end_S = (
        np.where(context, outputs[name][number, : row.length].astype(np.float64), -np.inf) for name in (START, END)
    )
    together_SS = np.where(_in_order(row.length), start_S[:, None] + end_S[None, :], -np.inf)
    first, last = (int(i) for i in np.unravel_index(together_SS.argmax(), together_SS.shape))
    start, end = row.tokens.offsets[first][0], row.tokens.offsets[last][1]
    score = float(softmax(start_S)[first] * softmax(end_S)[last])
    text, start, end = stripped(row.given[1], start, end)
    return float(together_SS[first, last]), Answer(text, score, start, end)


def _in_order(length: int) -> npt.NDArray[np.bool_]:
    """Which pairs of first and last token can be an answer."""
    distance = np.arange(length)[None, :] - np.arange(length)[:, None]
    return (distance >= 0) & (distance < LONGEST_ANSWER)
