"""From a model's outputs to one prediction per row for metrics.

Shapes: B rows, S tokens.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from finegates_export.common.tasks import task_of
from finegates_export.common.tasks.arrays import Array, Outputs
from finegates_export.common.tasks.pooling import Pooling


def predictions_of(
    task: str,
    outputs: Outputs,
    mask_BS: Array | None,
    pooling: Pooling | None = None,
    labels: Tensor | None = None,
) -> list[Any]:
    """One prediction per row of a batch.

    A class index for one label per row; 0 and 1 for several; a float for a score; an index for every token; first and
    last token of an answer; the cosine of a pair, whose two texts follow each other in the batch; for text
    generation the result of `next_token_predictions` per token.

    Args:
        task: a name of `TASKS`.
        outputs: the model's, by name.
        mask_BS: the attention mask; None for images.
        pooling: how to make embeddings if the model does not return them.
        labels: of `Examples.collate`; used for text generation, whose metrics are about the labels' probabilities.
    """
    return task_of(task).predictions(outputs, mask_BS, pooling, labels)
