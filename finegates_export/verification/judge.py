"""What two forms of a model predict: whether they agree, and how well they match the labels; the task decides how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from finegates_export.common.tasks import Task
from finegates_export.common.tasks.arrays import Outputs
from finegates_export.common.tasks.metrics import points_lost
from finegates_export.common.tasks.pooling import Pooling
from finegates_export.verification.agreed import Agreed, count_decisions, count_equal, labelled_only, recalls_of
from finegates_export.verification.inputs import Batch

UNRANKED = "pearson"
"""What measures scores whose queries are not known: a ranking metric would rank all rows together."""


@dataclass(frozen=True)
class Judge:
    """Compares what forms of a model predict.

    Args:
        task: decides what a prediction is.
        pooling: how to pool the last hidden state into an embedding; None for other tasks.
        metric_name: the run's metric; the task's first one if it is none of the task's.
        labels: names in the order of the head's outputs.
    """

    task: Task
    pooling: Pooling | None = None
    metric_name: str = ""
    labels: tuple[str, ...] = ()

    def over(self, batches: Sequence[Batch]) -> Judge:
        """The judge with a metric that these batches can be measured with."""
        known = self.metric_name in (*self.task.metrics, *self.task.entity_metrics)
        name = self.metric_name if known else self.task.default_metric(self.labels)
        ungrouped = self.task.ranks and any(batch.labels is not None and batch.groups is None for batch in batches)
        return replace(self, metric_name=UNRANKED if ungrouped else name)

    def kept(self, outputs: Outputs, batch: Batch) -> Outputs:
        """The part of a batch's outputs that judging needs: of logits over a vocabulary, what was chosen."""
        return self.task.kept(outputs, batch)

    def told(self, agreement: float) -> str:
        """A share of agreement in words."""
        return self.task.agreement_told.format(agreement)

    def agreement(self, before: list[Outputs], after: list[Outputs], batches: list[Batch]) -> float | None:
        """Share of equal predictions; a correlation for scores, a mean cosine similarity for vectors.

        None where scores cannot be correlated.
        """
        return self.task.agreement(before, after, batches, self.pooling)

    def agreed(self, before: list[Outputs], after: list[Outputs], batches: list[Batch]) -> Agreed | None:
        """Equal predictions counted, all and the rare ones, and each label's recall; None for scores and vectors."""
        task = self.task
        if not task.countable:
            return None
        one, other = (task.judged(side, batches) for side in (before, after))
        everything = count_decisions(one, other) if task.several_labels else count_equal(one, other)
        if task.generates:
            return Agreed(everything.compared, everything.equal)
        if not task.named_labels:
            return everything
        known = all(batch.labels is not None for batch in batches)
        one, other, truth = labelled_only(one, other, task.judged_truth(batches) if known else None)
        rare = count_decisions(one, other) if task.several_labels else count_equal(one, other)
        names = self.labels or tuple(
            map(str, range(int(max(one.max(), other.max())) + 1 if one.ndim == 1 else one.shape[1]))
        )
        told = recalls_of(one, other, truth, names)
        return replace(rare, compared=everything.compared, equal=everything.equal, recalls=told)

    def metric(self, outputs: list[Outputs], batches: list[Batch]) -> float | None:
        """The run's metric on labelled rows, by the code that training measures with; None without labels."""
        measured = self.task.measured(outputs, batches, self.pooling, self.labels)
        return measured.get(self.metric_name)

    def lost(self, before: float | None, after: float | None, batches: list[Batch]) -> float | None:
        """How much worse the metric became; see `points_lost`."""
        if before is None or after is None:
            return None
        truth = [np.asarray(batch.labels, np.float64).reshape(-1) for batch in batches if batch.labels is not None]
        return points_lost(self.metric_name, before, after, float(np.concatenate(truth).std()))
