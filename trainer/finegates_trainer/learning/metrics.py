"""The metrics by task; a task's first one is its default. Correlations and F1 are scikit-learn's and scipy's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from finegates_export.common.tasks import NO_LABEL, TOKEN_UNITS, task_of

Array = npt.NDArray[Any]
MetricFunction = Callable[[Array, Array], float]


def _accuracy(truth: Array, predicted: Array) -> float:
    return float((truth == predicted).mean())


def _f1(truth: Array, predicted: Array, average: str = "macro") -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(truth, predicted, average=average, zero_division=0))


def _micro_f1(truth: Array, predicted: Array) -> float:
    return _f1(truth, predicted, "micro")


def _matthews(truth: Array, predicted: Array) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(truth, predicted))


def _spearman(truth: Array, predicted: Array) -> float:
    from scipy.stats import spearmanr

    return _correlation(spearmanr, truth, predicted)


def _pearson(truth: Array, predicted: Array) -> float:
    from scipy.stats import pearsonr

    return _correlation(pearsonr, truth, predicted)


def _correlation(function: Callable[..., Any], truth: Array, predicted: Array) -> float:
    if np.ptp(truth) == 0 or np.ptp(predicted) == 0:
        return 0.0
    return float(function(truth, predicted).statistic)


def _negative_rmse(truth: Array, predicted: Array) -> float:
    return -float(np.sqrt(np.mean((truth - predicted) ** 2)))


def _exact_match(truth_N2: Array, predicted_N2: Array) -> float:
    return float((truth_N2 == predicted_N2).all(-1).mean())


def _overlap_f1(truth_N2: Array, predicted_N2: Array) -> float:
    """Mean over the answers of the F1 between their tokens and the predicted ones."""
    common = np.minimum(truth_N2[:, 1], predicted_N2[:, 1]) - np.maximum(truth_N2[:, 0], predicted_N2[:, 0]) + 1
    widths = [np.maximum(spans[:, 1] - spans[:, 0] + 1, 0) for spans in (truth_N2, predicted_N2)]
    return float((2 * np.maximum(common, 0) / (widths[0] + widths[1])).mean())


def _perplexity(_truth: Array, predicted_N2: Array) -> float:
    return float(np.exp(predicted_N2[:, 0].mean()))


def _next_accuracy(truth: Array, predicted_N2: Array) -> float:
    return _accuracy(truth, predicted_N2[:, 1])


_ONE_LABEL: dict[str, MetricFunction] = {"accuracy": _accuracy, "f1": _f1, "matthews": _matthews}

METRICS: dict[str, dict[str, MetricFunction]] = {
    "classification": _ONE_LABEL,
    "multi-label": {"f1_micro": _micro_f1, "f1_macro": _f1, "accuracy": _accuracy},
    "regression": {"spearman": _spearman, "pearson": _pearson, "negative_rmse": _negative_rmse},
    "token-classification": {"f1": _f1, "accuracy": _accuracy},
    "question-answering": {"exact_match": _exact_match, "f1": _overlap_f1},
    "feature-extraction": {},
    "embedding": {"spearman": _spearman, "pearson": _pearson},
    "image-classification": _ONE_LABEL,
    "text-generation": {"perplexity": _perplexity, "accuracy": _next_accuracy},
}
"""Greater is better, except those in `LESS_IS_BETTER`. Multi-label accuracy counts single decisions, token metrics are
per labelled token, and plain F1 is the macro average."""
LESS_IS_BETTER = frozenset({"perplexity"})
POINTS = 100.0


def is_better(metric: str, one: float, other: float) -> bool:
    """Whether `one` is the better value of a metric."""
    return one < other if metric in LESS_IS_BETTER else one > other


def gain(metric: str, one: float, other: float) -> float:
    """How much better `one` is than `other`.

    In points (hundredths); if less is better, in per cent of `other`, since perplexity has no scale.
    """
    return POINTS * ((other - one) / other if metric in LESS_IS_BETTER else one - other)


def default_metric(task: str) -> str:
    """The metric that selects the best checkpoint by default."""
    return next(iter(METRICS[task]))


def compute_metrics(task: str, predicted: Sequence[Any], truth: Sequence[Any]) -> dict[str, float]:
    """All metrics of a task.

    Args:
        task: a name of `TASKS`.
        predicted: one prediction per row, of `predictions_of`.
        truth: the rows' labels, of `Examples.labels`.
    """
    if task_of(task).unit in TOKEN_UNITS:
        # Predictions are as long as their batch, labels as long as their row.
        known = [np.asarray(row) for row in truth]
        guessed = [np.asarray(row)[: len(labels)] for row, labels in zip(predicted, known, strict=True)]
        one, other = np.concatenate(known), np.concatenate(guessed)
        one, other = one[one != NO_LABEL], other[one != NO_LABEL]
    else:
        one, other = np.asarray(truth), np.asarray(predicted)
    return {name: function(one, other) for name, function in METRICS[task].items()}
