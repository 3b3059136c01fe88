"""Feature extraction: the last hidden state of a text, one vector per token.

Shapes: B rows, S tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from finegates_export.common.files import JsonObject
from finegates_export.common.tasks.answers import ANY_WIDTH, NUMBER, AnswerTensor, Schema
from finegates_export.common.tasks.arrays import Array, BatchRead, ModelOutputs, Outputs, RowRead
from finegates_export.common.tasks.labels import scores_of
from finegates_export.common.tasks.names import HIDDEN, SENTENCE
from finegates_export.common.tasks.task import Divergence, LossSettings, Task
from finegates_export.errors import UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor

    from finegates_export.common.tasks.pooling import Pooling


class FeatureExtraction(Task):
    """The encoder alone. It is exported from run folders and has nothing to train on."""

    name = "feature-extraction"
    auto_class = "AutoModel"
    architecture = "Model"
    output_class = "BaseModelOutput"
    outputs = (HIDDEN,)
    has_head = False
    one_answer = False
    joins_pairs = False
    named_labels = False
    metrics = {}
    countable = False
    agreement_told = "gives vectors of a mean cosine similarity of {:.2%} to the gated model's"
    agreement_brief = "cosine {:.4f}"
    answer_output = SENTENCE
    gives = "vectors"

    def head_settings(self, labels: Sequence[str]) -> dict[str, object]:
        return {}

    def encode_labels(self, labels: Sequence[object], names: Sequence[str], what: str) -> list[float]:
        return scores_of(labels, what)

    def loss(self, outputs: ModelOutputs, labels: Tensor, settings: LossSettings) -> tuple[Tensor, Tensor]:
        raise UnsupportedError(f"{self.name} has nothing to train on; train it as an embedding, on scored pairs")

    def distances(
        self, mine: ModelOutputs, theirs: ModelOutputs, mask_BS: Tensor | None, divergence: Divergence
    ) -> tuple[Tensor, Tensor | None]:
        from torch.nn import functional

        vectors = (mine.sentence_embedding.float(), theirs.sentence_embedding.float())
        return 1.0 - functional.cosine_similarity(*vectors), None

    def predictions(
        self, outputs: Outputs, mask_BS: Array | None, pooling: Pooling | None = None, labels: Tensor | None = None
    ) -> list[np.float32]:
        """The cosine of a pair, whose two texts follow each other in the batch."""
        from finegates_export.common.tasks.pooling import Pooling, normalized, pool

        vectors_BD = outputs.get(SENTENCE)
        if vectors_BD is None:
            attended = np.ones(outputs[HIDDEN].shape[:2]) if mask_BS is None else mask_BS
            vectors_BD = pool(outputs[HIDDEN], attended, pooling or Pooling("mean", normalize=False))
        vectors_BD = normalized(vectors_BD)
        return list((vectors_BD[0::2] * vectors_BD[1::2]).sum(-1))

    def agreement(
        self, before: list[Outputs], after: list[Outputs], batches: Sequence[BatchRead], pooling: Pooling | None
    ) -> float | None:
        """The mean cosine of two forms' vectors: one per row if pooled, else one per attended token."""
        from finegates_export.common.tasks.pooling import normalized

        pairs = [
            (vectors_of(one, batch, pooling), vectors_of(other, batch, pooling))
            for one, other, batch in zip(before, after, batches, strict=True)
        ]
        cosines = [(normalized(one) * normalized(other)).sum(-1) for one, other in pairs]
        return float(np.concatenate([cosine.reshape(-1) for cosine in cosines]).mean())

    def decode(
        self, outputs: Outputs, rows: Sequence[RowRead], labels: Sequence[str], pooling: Pooling | None
    ) -> list[Array]:
        from finegates_export.common.tasks.pooling import pool

        if SENTENCE in outputs:
            return list(outputs[SENTENCE])
        hidden_BSD = outputs[HIDDEN]
        attended_BS = np.ones(hidden_BSD.shape[:2], bool)
        for number, row in enumerate(rows):
            attended_BS[number, row.length :] = False
        if pooling is not None:
            return list(pool(hidden_BSD, attended_BS, pooling))
        return [tokens_SD[mask_S] for tokens_SD, mask_S in zip(hidden_BSD, attended_BS, strict=True)]

    def answer_tensors(self, labels: Sequence[str]) -> tuple[AnswerTensor, ...]:
        return (AnswerTensor("embedding", width=ANY_WIDTH),)

    def answer_schema(self) -> dict[str, Schema]:
        return {"embedding": {"type": "array", "items": NUMBER}}

    def as_json(self, result: Array) -> JsonObject:
        return {"embedding": np.asarray(result, np.float64).tolist()}

    def triton_refusal(self, outputs: Collection[str]) -> str | None:
        if SENTENCE in outputs:
            return None
        return f"{self.name}: the graph does not pool; export an embedding with --pool-in-graph"


def vectors_of(outputs: Outputs, batch: BatchRead, pooling: Pooling | None) -> Array:
    """One vector per row for an embedding, else one per attended token."""
    from finegates_export.common.tasks.pooling import pool

    if SENTENCE in outputs:
        return outputs[SENTENCE]
    mask = batch.attended
    attended = np.ones(outputs[HIDDEN].shape[:2], bool) if mask is None else mask
    return outputs[HIDDEN][attended] if pooling is None else pool(outputs[HIDDEN], attended, pooling)
