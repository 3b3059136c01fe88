"""The metrics by task; a task's first one is its default. Correlations and F1 are scikit-learn's and scipy's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finegates_export.common.tasks import TASKS, task_of
from finegates_export.common.tasks.entities import marks_entities
from finegates_export.common.tasks.metrics import LESS_IS_BETTER, MetricFunction
from finegates_export.errors import InputError

__all__ = ["LESS_IS_BETTER", "METRICS", "POINTS", "chosen_metric", "compute_metrics", "gain", "is_better"]

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


def chosen_metric(task: str, asked: str | None, labels: Sequence[str]) -> str:
    """The metric that selects the best checkpoint.

    Args:
        task: a name of `TASKS`.
        asked: the option `metric`; None for the task's default with these labels.
        labels: the labels' names.

    Raises:
        InputError: it counts entities, and the labels mark none.
    """
    kind = task_of(task)
    if asked in kind.entity_metrics and not marks_entities(labels):
        raise InputError(
            f"metric: {asked} counts entities, which the labels {', '.join(labels[:5])} do not mark: one has to be O. "
            f"Use --metric {' or --metric '.join(kind.metrics)}"
        )
    return asked or kind.default_metric(labels)


def compute_metrics(
    task: str,
    predicted: Sequence[Any],
    truth: Sequence[Any],
    groups: Sequence[int] | None = None,
    labels: Sequence[str] = (),
) -> dict[str, float]:
    """All metrics of a task.

    Args:
        task: a name of `TASKS`.
        predicted: one prediction per row, of `predictions_of`.
        truth: the rows' labels, of `Examples.labels`.
        groups: which rows are ranked together, of `Examples.groups`.
        labels: the labels' names.
    """
    return task_of(task).compute_metrics(predicted, truth, groups, labels)
