"""What training minimises: the task's own loss, as a mean over what was labelled."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from finegates_export.common.tasks import LossSettings, task_of
from finegates_trainer.processes import Average, alone

LEAST_COUNT = 1e-6
"""A batch whose words were all cut off would divide by zero."""


class TaskLoss:
    """The loss of one task.

    Args:
        task: a name of `TASKS`.
        settings: what the run fixes about it.
        average: a count's mean over the processes of the run.
    """

    def __init__(self, task: str, settings: LossSettings | None = None, average: Average = alone) -> None:
        self._task, self._settings, self._average = task_of(task), settings or LossSettings(), average

    def __call__(self, outputs: Any, labels: Tensor) -> Tensor:
        """The mean over a batch, in float32; see `processes` for what it is where several share the batch.

        Args:
            outputs: what the model returned.
            labels: what `Examples.collate` gave.
        """
        total, count = self._task.loss(outputs, labels, self._settings)
        return total / self._average(count).clamp(min=LEAST_COUNT)
