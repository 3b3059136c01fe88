"""Metrics that several tasks share: F1 and Matthews' correlation are scikit-learn's, the others scipy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from finegates_export.common.tasks.arrays import Array

MetricFunction = Callable[[Array, Array], float]
"""From truth and predictions to a value; greater is better, except those in `LESS_IS_BETTER`."""
LESS_IS_BETTER = frozenset({"perplexity"})
IN_LABEL_UNITS = frozenset({"negative_rmse"})
"""Metrics in the unit of the labels, whatever that is."""


def points_lost(metric: str, before: float, after: float, spread: float) -> float:
    """How much worse a metric became; 0.01 is a point.

    Args:
        metric: its name. A perplexity, which has no scale, counts as a share of what it was.
        before: what it was.
        after: what it is.
        spread: the labels' standard deviation, which metrics in their unit are divided by.
    """
    if metric in LESS_IS_BETTER:
        return (after - before) / before
    return (before - after) / (spread or 1.0) if metric in IN_LABEL_UNITS else before - after


def accuracy(truth: Array, predicted: Array) -> float:
    """The share of correct predictions."""
    return float((truth == predicted).mean())


def macro_f1(truth: Array, predicted: Array) -> float:
    """F1, averaged over the labels."""
    return _f1(truth, predicted, "macro")


def micro_f1(truth: Array, predicted: Array) -> float:
    """F1 over all decisions."""
    return _f1(truth, predicted, "micro")


def matthews(truth: Array, predicted: Array) -> float:
    """Matthews' correlation of truth and predictions."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(truth, predicted))


def spearman(truth: Array, predicted: Array) -> float:
    """The correlation of ranks; 0 if either is constant."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, truth, predicted)


def pearson(truth: Array, predicted: Array) -> float:
    """The correlation of values; 0 if either is constant."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, truth, predicted)


def negative_rmse(truth: Array, predicted: Array) -> float:
    """The root mean square error, negated."""
    return -float(np.sqrt(np.mean((truth - predicted) ** 2)))


def _f1(truth: Array, predicted: Array, average: str) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(truth, predicted, average=average, zero_division=0))


def _correlation(function: Callable[..., Any], truth: Array, predicted: Array) -> float:
    if np.ptp(truth) == 0 or np.ptp(predicted) == 0:
        return 0.0
    return float(function(truth, predicted).statistic)
