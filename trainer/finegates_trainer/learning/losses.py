"""The loss that training minimises, by the task's unit of prediction.

Shapes: B rows, S tokens, C labels, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from finegates_export.common.tasks import NO_LABEL, Unit
from finegates_export.errors import InputError
from finegates_trainer.processes import Average, alone

LEAST_COUNT = 1e-6
"""Avoids division by zero for a batch whose words were all truncated."""


class TaskLoss:
    """The loss of one task.

    Args:
        unit: the task's unit of prediction.
        class_weights: a weight per label, shape (C,); None for equal ones.
        score_range: the lowest and highest score of a pair in training, for embeddings.
        average: a count's mean over the processes of the run.
    """

    def __init__(
        self,
        unit: Unit,
        class_weights: Tensor | None = None,
        score_range: tuple[float, float] = (0.0, 1.0),
        average: Average = alone,
    ) -> None:
        self._losses = {
            "row": self._row, "label": self._label, "score": self._score,
            "token": self._token, "span": self._span, "vector": self._vector, "next": self._next,
        }  # fmt: skip
        self._loss = self._losses[unit]
        self._class_weights, self._score_range, self._average = class_weights, score_range, average

    def __call__(self, outputs: Any, labels: Tensor) -> Tensor:
        """The mean over a batch, in float32; see `processes` for batches shared by several processes.

        Args:
            outputs: the model's outputs.
            labels: labels of `Examples.collate`.
        """
        total, count = self._loss(outputs, labels)
        return total / self._average(count).clamp(min=LEAST_COUNT)

    def _row(self, outputs: Any, labels_B: Tensor) -> tuple[Tensor, Tensor]:
        weights = self._class_weights
        total = functional.cross_entropy(outputs.logits.float(), labels_B, weight=weights, reduction="sum")
        return total, _count(labels_B) if weights is None else weights[labels_B].sum()

    def _label(self, outputs: Any, labels_BC: Tensor) -> tuple[Tensor, Tensor]:
        logits_BC = outputs.logits.float()
        total = functional.binary_cross_entropy_with_logits(logits_BC, labels_BC, reduction="sum")
        return total, _count(labels_BC)

    def _score(self, outputs: Any, scores_B: Tensor) -> tuple[Tensor, Tensor]:
        return functional.mse_loss(outputs.logits.float()[:, 0], scores_B, reduction="sum"), _count(scores_B)

    def _token(self, outputs: Any, labels_BS: Tensor) -> tuple[Tensor, Tensor]:
        logits_NC = outputs.logits.float().flatten(0, 1)
        total = functional.cross_entropy(logits_NC, labels_BS.flatten(), ignore_index=NO_LABEL, reduction="sum")
        return total, (labels_BS != NO_LABEL).sum().float()

    def _next(self, outputs: Any, labels_BS: Tensor) -> tuple[Tensor, Tensor]:
        """`outputs` are `NextTokens`."""
        known_BS = labels_BS != NO_LABEL
        return outputs.total(_surprise, known_BS, labels_BS), known_BS.sum().float()

    def _span(self, outputs: Any, ends_B2: Tensor) -> tuple[Tensor, Tensor]:
        start = functional.cross_entropy(outputs.start_logits.float(), ends_B2[:, 0], reduction="sum")
        end = functional.cross_entropy(outputs.end_logits.float(), ends_B2[:, 1], reduction="sum")
        return start + end, _count(ends_B2)

    def _vector(self, outputs: Any, scores_B: Tensor) -> tuple[Tensor, Tensor]:
        """The cosine of a pair against its score, scaled to [0, 1] by the range of the training scores."""
        vectors_BD = outputs.sentence_embedding.float()
        cosine_B = functional.cosine_similarity(vectors_BD[0::2], vectors_BD[1::2])
        low, high = self._score_range
        return functional.mse_loss(cosine_B, (scores_B - low) / (high - low), reduction="sum"), _count(scores_B)


def _surprise(logits_NV: Tensor, labels_N: Tensor) -> Tensor:
    return functional.cross_entropy(logits_NV, labels_N, reduction="sum")


def _count(labels: Tensor) -> Tensor:
    return torch.tensor(float(labels.numel()), device=labels.device)


def score_range(labels: Sequence[float]) -> tuple[float, float]:
    """The lowest and the highest score.

    Raises:
        InputError: they are equal.
    """
    low, high = min(labels), max(labels)
    if low == high:
        raise InputError(f"all training pairs have the score {low:g}; an embedding learns from different scores")
    return low, high
