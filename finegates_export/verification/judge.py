"""What two forms of a model predict: whether they agree, and how well they match the labels; the task decides how."""

from __future__ import annotations

from dataclasses import dataclass

from finegates_export.common.tasks import Task
from finegates_export.common.tasks.arrays import Outputs
from finegates_export.common.tasks.pooling import Pooling
from finegates_export.verification.inputs import Batch


@dataclass(frozen=True)
class Judge:
    """Compares what forms of a model predict.

    Args:
        task: decides what a prediction is.
        pooling: how to pool the last hidden state into an embedding; None for other tasks.
    """

    task: Task
    pooling: Pooling | None = None

    def kept(self, outputs: Outputs) -> Outputs:
        """The part of a batch's outputs that judging needs: for logits over a vocabulary, only the chosen tokens."""
        return self.task.kept(outputs)

    def told(self, agreement: float) -> str:
        """A share of agreement in words."""
        return self.task.agreement_told.format(agreement)

    def agreement(self, before: list[Outputs], after: list[Outputs], batches: list[Batch]) -> float | None:
        """Share of equal predictions; a correlation for scores, a mean cosine similarity for vectors.

        None where scores cannot be correlated.
        """
        return self.task.agreement(before, after, batches, self.pooling)

    def metric(self, outputs: list[Outputs], batches: list[Batch]) -> float | None:
        """How well predictions match the labels; None without labels.

        The share of correct rows, decisions, tokens, answers (both ends) or next tokens; for scores, and for the
        similarity of the two texts of a pair, Pearson's correlation.
        """
        return self.task.metric(outputs, batches, self.pooling)
