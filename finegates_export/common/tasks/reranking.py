"""Reranking: a score for a query and a passage that orders the passages of a query (a cross-encoder).

Shapes: N pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from finegates_export.common.tasks.arrays import Array, ModelOutputs, count_of
from finegates_export.common.tasks.columns import PAIR_COLUMNS, TEXT_COLUMNS, UsualColumns
from finegates_export.common.tasks.metrics import pearson
from finegates_export.common.tasks.regression import Regression
from finegates_export.common.tasks.task import LossSettings, RankingLoss
from finegates_export.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

DEPTH = 10
"""How many ranks the metrics look at."""


def reciprocal_rank(gains: Array) -> float:
    """One over the rank of the first relevant passage; 0 if none is among the first `DEPTH`.

    Args:
        gains: a query's passages in the order of their scores; relevant ones are above 0.
    """
    found = np.flatnonzero(gains[:DEPTH] > 0)
    return 1.0 / (int(found[0]) + 1) if len(found) else 0.0


def normalized_gain(gains: Array) -> float:
    """The discounted gain of the first `DEPTH`, over that of the best order (Järvelin and Kekäläinen, 2002).

    Args:
        gains: a query's passages in the order of their scores; at least one is above 0.
    """
    discounts = 1.0 / np.log2(np.arange(2, len(gains[:DEPTH]) + 2))
    best = np.sort(gains)[::-1]
    return float((gains[:DEPTH] * discounts).sum() / (best[:DEPTH] * discounts).sum())


def over_queries(of_query: Callable[[Array], float], truth: Array, predicted: Array, groups: Array) -> float:
    """The mean of a metric over the queries that have a relevant passage; 0 if none has.

    Args:
        of_query: the metric of one query, given its gains in the order of the scores.
        truth: the label of each pair, shape (N,); relevant ones are above 0.
        predicted: the score of each pair, shape (N,). Ties put irrelevant passages first, so that a model with
            equal scores gains nothing from the order of the rows.
        groups: the number of each pair's query, shape (N,).
    """
    values = []
    for group in np.unique(groups):
        own = groups == group
        gains, scores = np.maximum(truth[own], 0.0), predicted[own]
        if gains.any():
            values.append(of_query(gains[np.lexsort((gains, -scores))]))
    return float(np.mean(values)) if values else 0.0


def mrr(truth: Array, predicted: Array) -> float:
    """MRR@10 of the passages of one query."""
    return over_queries(reciprocal_rank, truth, predicted, np.zeros(len(truth)))


def ndcg(truth: Array, predicted: Array) -> float:
    """NDCG@10 of the passages of one query, with the labels as gains."""
    return over_queries(normalized_gain, truth, predicted, np.zeros(len(truth)))


OF_QUERY: dict[str, Callable[[Array], float]] = {"mrr@10": reciprocal_rank, "ndcg@10": normalized_gain}


def margin_error(scores_N: Tensor, truth_N: Tensor, queries_N: Tensor) -> tuple[Tensor, Tensor]:
    """Margin-MSE (Hofstätter et al., 2020), summed, and the number of comparisons; both are 0 if there are none.

    For every two passages of one query: the squared error of the student's difference of scores.

    Args:
        scores_N: the student's scores.
        truth_N: the teacher's scores.
        queries_N: the number of each pair's query.
    """
    compared_NN = (queries_N[:, None] == queries_N).triu(diagonal=1)
    # The error of a difference is the difference of the errors.
    errors_N = scores_N - truth_N
    errors_NN = errors_N[:, None] - errors_N
    return (errors_NN.square() * compared_NN).sum(), compared_NN.sum().float()


class Reranking(Regression):
    """A regression on pairs that is trained and measured as a ranking; the score is the logit itself."""

    name = "reranking"
    takes = "reranking takes pairs (query, passage)"
    ranks = True
    needs_pair = True
    example = ("a query", "a passage")
    columns = UsualColumns(("query", *TEXT_COLUMNS), ("passage", "document", *PAIR_COLUMNS), needs_pair=True)
    metrics = {"mrr@10": mrr, "ndcg@10": ndcg, "pearson": pearson}
    has_page = False
    gives = "one score for a query and a passage"

    def loss_settings(
        self, labels: Sequence[float], class_weights: Tensor | None = None, ranking: RankingLoss = "binary"
    ) -> LossSettings:
        outside = [label for label in labels if not 0 <= label <= 1]
        if ranking == "binary" and outside:
            raise InputError(
                f"ranking-loss: binary learns labels from 0 to 1, the rows have {outside[0]:g}; use --ranking-loss mse "
                "or margin for a teacher's scores"
            )
        return LossSettings(ranking=ranking)

    def loss(self, outputs: ModelOutputs, labels: Tensor, settings: LossSettings) -> tuple[Tensor, Tensor]:
        """See `Task.loss`; for `margin`, labels are those of `collate_groups`, shape (N, 2)."""
        if settings.ranking == "mse":
            return super().loss(outputs, labels, settings)
        scores_N = outputs.logits.float()[:, 0]
        if settings.ranking == "margin":
            return margin_error(scores_N, labels[:, 0], labels[:, 1])
        from torch.nn import functional

        return functional.binary_cross_entropy_with_logits(scores_N, labels, reduction="sum"), count_of(labels)

    def compute_metrics(
        self,
        predicted: Sequence[object],
        truth: Sequence[object],
        groups: Sequence[int] | None = None,
        names: Sequence[str] = (),
    ) -> dict[str, float]:
        one, other = self.compared(predicted, truth)
        queries = np.zeros(len(one)) if groups is None else np.asarray(groups)
        ranked = {name: over_queries(of_query, one, other, queries) for name, of_query in OF_QUERY.items()}
        return {name: ranked[name] if name in ranked else of_all(one, other) for name, of_all in self.metrics.items()}
