"""From a graph's outputs to answers, decoded by the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finegates_export.common.tasks import Task
from finegates_export.common.tasks.answers import Result
from finegates_export.common.tasks.arrays import Outputs
from finegates_export.common.tasks.pooling import Pooling
from finegates_export.runtime.reading import Row


@dataclass(frozen=True)
class Decoder:
    """Decodes the outputs of one model.

    Args:
        task: the task the model was trained for.
        labels: label names in the order of the logits; empty if the task has none.
        pooling: how to make an embedding; None for other tasks.
    """

    task: Task
    labels: tuple[str, ...]
    pooling: Pooling | None

    def decode(self, outputs: Outputs, rows: Sequence[Row]) -> list[Any]:
        """The result of each row of a call."""
        return self.task.decode(outputs, rows, self.labels, self.pooling)

    def join(self, found: Sequence[Any], rows: Sequence[Row]) -> list[Result]:
        """One answer per input, from the results of its rows: for a text with several windows, the best one.

        Args:
            found: the results of `decode`, row by row.
            rows: those rows, in the order of the inputs.
        """
        return self.task.join(found, rows)
