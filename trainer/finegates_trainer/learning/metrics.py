"""The metrics by task; a task's first one is its default. Correlations and F1 are scikit-learn's and scipy's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finegates_export.common.tasks import TASKS, task_of
from finegates_export.common.tasks.metrics import LESS_IS_BETTER, MetricFunction

__all__ = ["LESS_IS_BETTER", "METRICS", "POINTS", "compute_metrics", "default_metric", "gain", "is_better"]

METRICS: dict[str, Mapping[str, MetricFunction]] = {name: task.metrics for name, task in TASKS.items()}
"""Greater is better, except those in `LESS_IS_BETTER`. Multi-label accuracy counts single decisions, token metrics are
per labelled token, and plain F1 is the macro average."""
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


def compute_metrics(
    task: str, predicted: Sequence[Any], truth: Sequence[Any], groups: Sequence[int] | None = None
) -> dict[str, float]:
    """All metrics of a task.

    Args:
        task: a name of `TASKS`.
        predicted: one prediction per row, of `predictions_of`.
        truth: the rows' labels, of `Examples.labels`.
        groups: which rows are ranked together, of `Examples.groups`.
    """
    return task_of(task).compute_metrics(predicted, truth, groups)
