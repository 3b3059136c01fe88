"""From a model's outputs to one prediction per row for metrics, by the task's unit.

Shapes: B rows, S tokens, C labels, D hidden size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from finegates_export.common.pooling import Pooling, normalized, pool
from finegates_export.common.tasks import END, HIDDEN, LOGITS, SENTENCE, START, task_of
from finegates_trainer.learning.next_tokens import next_token_predictions

Array = npt.NDArray[Any]


def predictions_of(
    task: str,
    outputs: dict[str, Array],
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
    unit = task_of(task).unit
    if unit == "next" and labels is not None:
        rows = zip(torch.from_numpy(outputs[LOGITS]), labels.clamp(min=0), strict=True)
        return [next_token_predictions(logits_SV, labels_S) for logits_SV, labels_S in rows]
    if unit == "vector":
        vectors_BD = normalized(_embedding(outputs, mask_BS, pooling))
        return list((vectors_BD[0::2] * vectors_BD[1::2]).sum(-1))
    if unit == "span":
        attended = np.asarray(mask_BS, bool)
        ends = [np.where(attended, outputs[name], -np.inf).argmax(-1) for name in (START, END)]
        return list(np.stack(ends, -1))
    logits = outputs[LOGITS]
    if unit == "score":
        return list(logits[:, 0])
    if unit == "label":
        return list((logits > 0).astype(np.int64))
    return list(logits.argmax(-1))


def _embedding(outputs: dict[str, Array], mask_BS: Array | None, pooling: Pooling | None) -> Array:
    if SENTENCE in outputs:
        return outputs[SENTENCE]
    hidden_BSD = outputs[HIDDEN]
    attended = np.ones(hidden_BSD.shape[:2]) if mask_BS is None else mask_BS
    return pool(hidden_BSD, attended, pooling or Pooling("mean", normalize=False))
