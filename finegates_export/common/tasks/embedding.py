"""Sentence embeddings: a vector for each text, near those of texts that mean the same.

Shapes: B pairs, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from finegates_export.common.tasks.arrays import BatchRead, ModelOutputs, Outputs, correlation, count_of, labelled
from finegates_export.common.tasks.columns import UsualColumns
from finegates_export.common.tasks.feature_extraction import FeatureExtraction, vectors_of
from finegates_export.common.tasks.metrics import pearson, spearman
from finegates_export.common.tasks.task import LossSettings, RankingLoss
from finegates_export.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from finegates_export.common.tasks.pooling import Pooling


class Embedding(FeatureExtraction):
    """The last hidden state, pooled; the cosine of a pair learns the pair's score."""

    name = "embedding"
    pools = True
    columns = UsualColumns(label=("score", "label", "similarity"), needs_pair=True)
    metrics = {"spearman": spearman, "pearson": pearson}
    served = True

    def loss_settings(
        self, labels: Sequence[float], class_weights: Tensor | None = None, ranking: RankingLoss = "binary"
    ) -> LossSettings:
        low, high = min(labels), max(labels)
        if low == high:
            raise InputError(f"all training pairs have the score {low:g}; an embedding learns from different scores")
        return LossSettings(score_range=(low, high))

    def loss(self, outputs: ModelOutputs, labels: Tensor, settings: LossSettings) -> tuple[Tensor, Tensor]:
        """The cosine of a pair against its score, scaled to [0, 1] by the range of the training scores."""
        from torch.nn import functional

        vectors = outputs.sentence_embedding.float()
        cosine_B = functional.cosine_similarity(vectors[0::2], vectors[1::2])
        low, high = settings.score_range
        return functional.mse_loss(cosine_B, (labels - low) / (high - low), reduction="sum"), count_of(labels)

    def metric(self, outputs: list[Outputs], batches: Sequence[BatchRead], pooling: Pooling | None) -> float | None:
        """The correlation of the cosines of pairs with their scores."""
        from finegates_export.common.tasks.pooling import normalized

        known, own, labels = labelled(outputs, batches)
        if not labels:
            return None
        vectors = [normalized(vectors_of(one, batch, pooling)) for one, batch in zip(known, own, strict=True)]
        cosines = [(array[0::2] * array[1::2]).sum(-1) for array in vectors]
        return correlation(np.concatenate(cosines), np.concatenate(labels))
