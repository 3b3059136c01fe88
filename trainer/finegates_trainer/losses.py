"""What training minimises, by the task's unit of prediction.

Shapes: B rows, S tokens, C labels, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional

from finegates_export.errors import InputError
from finegates_export.tasks import NO_LABEL, Unit


class TaskLoss:
    """The loss of one task.

    Args:
        unit: the task's unit of prediction.
        class_weights: a weight per label, shape (C,); None for equal ones.
        score_range: the lowest and highest score of a pair in training, for embeddings.
    """

    def __init__(
        self, unit: Unit, class_weights: Tensor | None = None, score_range: tuple[float, float] = (0.0, 1.0)
    ) -> None:
        self._losses = {
            "row": self._row, "label": self._label, "score": self._score,
            "token": self._token, "span": self._span, "vector": self._vector,
        }  # fmt: skip
        self._loss = self._losses[unit]
        self._class_weights, self._score_range = class_weights, score_range

    def __call__(self, outputs: Any, labels: Tensor) -> Tensor:
        """The mean over a batch, in float32.

        Args:
            outputs: what the model returned.
            labels: what `Examples.collate` gave.
        """
        return self._loss(outputs, labels)

    def _row(self, outputs: Any, labels_B: Tensor) -> Tensor:
        return functional.cross_entropy(outputs.logits.float(), labels_B, weight=self._class_weights)

    def _label(self, outputs: Any, labels_BC: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(outputs.logits.float(), labels_BC)

    def _score(self, outputs: Any, scores_B: Tensor) -> Tensor:
        return functional.mse_loss(outputs.logits.float()[:, 0], scores_B)

    def _token(self, outputs: Any, labels_BS: Tensor) -> Tensor:
        logits_NC = outputs.logits.float().flatten(0, 1)
        total = functional.cross_entropy(logits_NC, labels_BS.flatten(), ignore_index=NO_LABEL, reduction="sum")
        # A batch whose words were all cut off would divide by zero.
        return total / (labels_BS != NO_LABEL).sum().clamp(min=1)

    def _span(self, outputs: Any, ends_B2: Tensor) -> Tensor:
        start = functional.cross_entropy(outputs.start_logits.float(), ends_B2[:, 0])
        return (start + functional.cross_entropy(outputs.end_logits.float(), ends_B2[:, 1])) / 2

    def _vector(self, outputs: Any, scores_B: Tensor) -> Tensor:
        """The cosine of a pair against its score, brought to [0, 1] by the range of the training scores."""
        vectors_BD = outputs.sentence_embedding.float()
        cosine_B = functional.cosine_similarity(vectors_BD[0::2], vectors_BD[1::2])
        low, high = self._score_range
        return functional.mse_loss(cosine_B, (scores_B - low) / (high - low))


def score_range(labels: Sequence[float]) -> tuple[float, float]:
    """The lowest and the highest score.

    Raises:
        InputError: they are the same.
    """
    low, high = min(labels), max(labels)
    if low == high:
        raise InputError(f"all training pairs have the score {low:g}; an embedding learns from scores that differ")
    return low, high
