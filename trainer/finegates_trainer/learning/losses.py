"""The loss that training minimises."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from finegates_export.common.tasks import LossSettings, task_of
from finegates_trainer.processes import Average, alone

LEAST_COUNT = 1e-6
"""Avoids division by zero for a batch whose words were all truncated, or without two passages of one query."""


class TaskLoss:
    """The loss of one task.

    Args:
        task: a name of `TASKS`.
        settings: what the run fixes about the loss.
        average: a count's mean over the processes of the run.
    """

    def __init__(self, task: str, settings: LossSettings | None = None, average: Average = alone) -> None:
        self._task, self._settings, self._average = task_of(task), settings or LossSettings(), average

    def __call__(self, outputs: Any, labels: Tensor) -> Tensor:
        """The mean over a batch, in float32; see `processes` for batches shared by several processes.

        Args:
            outputs: the model's outputs.
            labels: labels of `Examples.collate`.
        """
        total, count = self._task.loss(outputs, labels, self._settings)
        return total / self._average(count).clamp(min=LEAST_COUNT)
