"""Sentence embeddings: a vector for each text, near those of texts that mean the same.

Shapes: B pairs, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from finegates_export.common.tasks.arrays import ModelOutputs, count_of
from finegates_export.common.tasks.columns import UsualColumns
from finegates_export.common.tasks.feature_extraction import FeatureExtraction
from finegates_export.common.tasks.metrics import pearson, spearman
from finegates_export.common.tasks.task import LossSettings, RankingLoss
from finegates_export.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


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
