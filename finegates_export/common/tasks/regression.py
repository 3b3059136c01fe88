"""Regression: a number for each text or pair.

Shapes: B rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from finegates_export.common.files import JsonObject
from finegates_export.common.tasks.answers import NUMBER, AnswerTensor, Prediction, Schema
from finegates_export.common.tasks.arrays import (
    Array,
    BatchRead,
    ModelOutputs,
    Outputs,
    RowRead,
    correlation,
    count_of,
)
from finegates_export.common.tasks.labels import scores_of
from finegates_export.common.tasks.metrics import negative_rmse, pearson, spearman
from finegates_export.common.tasks.names import LOGITS
from finegates_export.common.tasks.task import Divergence, LossSettings, Task

if TYPE_CHECKING:
    from torch import Tensor

    from finegates_export.common.tasks.pooling import Pooling

OUTPUT_LABEL = "score"
"""What config.json calls the head's one output."""
IDENTITY = "torch.nn.modules.linear.Identity"


class Regression(Task):
    """The head's one output is the answer, learned by the squared error."""

    name = "regression"
    auto_class = "AutoModelForSequenceClassification"
    architecture = "ForSequenceClassification"
    output_class = "SequenceClassifierOutput"
    problem_type = "regression"
    outputs = (LOGITS,)
    named_labels = False
    metrics = {"spearman": spearman, "pearson": pearson, "negative_rmse": negative_rmse}
    countable = False
    agreement_told = "correlates with the gated model's scores at {:.2%}"
    agreement_brief = "correlation {:.4f}"
    served = True
    has_page = True
    gives = "one score"

    def config_values(self, labels: Sequence[str]) -> dict[str, object]:
        values = super().config_values((OUTPUT_LABEL,))
        # By default, sentence-transformers applies a sigmoid to a single output.
        return {**values, "sentence_transformers": {"activation_fn": IDENTITY}}

    def encode_labels(self, labels: Sequence[object], names: Sequence[str], what: str) -> list[float]:
        return scores_of(labels, what)

    def loss(self, outputs: ModelOutputs, labels: Tensor, settings: LossSettings) -> tuple[Tensor, Tensor]:
        from torch.nn import functional

        return functional.mse_loss(outputs.logits.float()[:, 0], labels, reduction="sum"), count_of(labels)

    def distances(
        self, mine: ModelOutputs, theirs: ModelOutputs, mask_BS: Tensor | None, divergence: Divergence
    ) -> tuple[Tensor, Tensor | None]:
        return (mine.logits.float() - theirs.logits.float()).square(), None

    def predictions(
        self, outputs: Outputs, mask_BS: Array | None, pooling: Pooling | None = None, labels: Tensor | None = None
    ) -> list[np.float32]:
        return list(outputs[LOGITS][:, 0])

    def agreement(
        self, before: list[Outputs], after: list[Outputs], batches: Sequence[BatchRead], pooling: Pooling | None
    ) -> float | None:
        """The correlation of scores; None if they cannot be correlated."""
        return correlation(self.judged(after, batches), self.judged(before, batches))

    def decode(
        self, outputs: Outputs, rows: Sequence[RowRead], labels: Sequence[str], pooling: Pooling | None
    ) -> list[Prediction]:
        return [Prediction(None, float(row[0]), {}) for row in outputs[LOGITS]]

    def answer_tensors(self, labels: Sequence[str]) -> tuple[AnswerTensor, ...]:
        return (AnswerTensor("score"),)

    def answer_schema(self) -> dict[str, Schema]:
        return {"score": NUMBER}

    def as_json(self, result: Prediction) -> JsonObject:
        return {"score": result.score}
