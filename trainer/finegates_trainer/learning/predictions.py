"""From a model's outputs to what metrics compare: a prediction for every row, as the task makes it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from finegates_export.common.pooling import Pooling
from finegates_export.common.tasks import task_of
from finegates_export.common.tasks.arrays import Array, Outputs


def predictions_of(
    task: str,
    outputs: Outputs,
    mask_BS: Array | None,
    pooling: Pooling | None = None,
    labels: Tensor | None = None,
) -> list[Any]:
    """A prediction for every row of a batch.

    A class index for one label a row; 0 and 1 for several; a float for a score; an index for every token; first and
    last token of an answer; the cosine of a pair, whose two texts follow each other in the batch; for text to generate
    what `next_token_predictions` says of every token.

    Args:
        task: a name of `TASKS`.
        outputs: the model's, by name.
        mask_BS: the attention mask; None for images.
        pooling: how embeddings are made, where the model does not return them.
        labels: of `Examples.collate`; read for text to generate, whose score is what was thought of them.
    """
    return task_of(task).predictions(outputs, mask_BS, pooling, labels)
