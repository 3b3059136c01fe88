"""From a graph's outputs to answers, as the task makes them."""

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
    """What it takes to read outputs.

    Args:
        task: what was trained.
        labels: label names in the order of the logits; empty where the task has none.
        pooling: how an embedding is made; None for other tasks.
    """

    task: Task
    labels: tuple[str, ...]
    pooling: Pooling | None

    def decode(self, outputs: Outputs, rows: Sequence[Row]) -> list[Any]:
        """What each row of a call says."""
        return self.task.decode(outputs, rows, self.labels, self.pooling)

    def join(self, found: Sequence[Any], rows: Sequence[Row]) -> list[Result]:
        """An answer for every input, from what its rows say: of a text's windows, the best one's.

        Args:
            found: what `decode` gave, row by row.
            rows: those rows, in the order of the inputs.
        """
        return self.task.join(found, rows)
