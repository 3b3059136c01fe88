"""What two forms of a model predict: whether they agree, and how well they meet the labels, as the task judges it."""

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
        pooling: how an embedding is made of the last hidden state; None for other tasks.
    """

    task: Task
    pooling: Pooling | None = None

    def kept(self, outputs: Outputs) -> Outputs:
        """What is needed of a batch's outputs to judge them: of logits over a vocabulary the chosen words alone."""
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
        """How well predictions meet the labels; None without labels.

        The share of right rows, of right decisions, of right tokens, of answers right at both ends, of the text's own
        next tokens; for scores, and for the similarity of the two texts of a pair, Pearson's correlation.
        """
        return self.task.metric(outputs, batches, self.pooling)
