"""The metrics by task; the first of a task is its default. All from scikit-learn and scipy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
MetricFunction = Callable[[Array, Array], float]


def _accuracy(truth: Array, predicted: Array) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(truth, predicted))


def _f1(truth: Array, predicted: Array) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(truth, predicted, average="macro", zero_division=0))


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


METRICS: dict[str, dict[str, MetricFunction]] = {
    "classification": {"accuracy": _accuracy, "f1": _f1, "matthews": _matthews},
    "regression": {"spearman": _spearman, "pearson": _pearson, "negative_rmse": _negative_rmse},
}
"""For each, greater is better."""


def default_metric(task: str) -> str:
    """The metric that chooses the best checkpoint where the user names none."""
    return next(iter(METRICS[task]))


def compute_metrics(task: str, logits: Array, truth: Sequence[float]) -> dict[str, float]:
    """All metrics of a task.

    Args:
        task: classification or regression.
        logits: shape (rows, labels); (rows, 1) for regression.
        truth: label indices, or scores.
    """
    predicted = logits.argmax(-1) if task == "classification" else logits[:, 0]
    return {name: function(np.asarray(truth), predicted) for name, function in METRICS[task].items()}
