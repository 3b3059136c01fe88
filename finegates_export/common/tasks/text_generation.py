"""Text generation: a decoder continues a text, token by token.

Shapes: B rows, S tokens, N labelled tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np

from finegates_export.common.files import JsonObject
from finegates_export.common.tasks.answers import AnswerTensor, Schema
from finegates_export.common.tasks.arrays import Array, BatchRead, ModelOutputs, Outputs, RowRead
from finegates_export.common.tasks.metrics import accuracy
from finegates_export.common.tasks.names import HIDDEN, LOGITS, NO_LABEL
from finegates_export.common.tasks.task import Divergence, LossSettings, Task
from finegates_export.common.tasks.token_classification import attended, labelled_tokens
from finegates_export.errors import UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor

    from finegates_export.common.tasks.pooling import Pooling

CHOSEN = "chosen"
"""The most likely next token at each position, shape (B, S)."""
SURPRISE = "surprise"
"""The negative logarithm of each label's probability, shape (B, S)."""


def perplexity(_truth: Array, predicted_N2: Array) -> float:
    """The exponential of the mean surprise."""
    return float(np.exp(predicted_N2[:, 0].mean()))


def next_accuracy(truth: Array, predicted_N2: Array) -> float:
    """The share of tokens that the model found most likely."""
    return accuracy(truth, predicted_N2[:, 1])


class NextTokensRead(Protocol):
    """The trainer's `NextTokens`, which never hold all logits at once."""

    def total(self, sum_of: Callable[[Tensor, Tensor], Tensor], chosen_BS: Tensor, *given: Tensor) -> Tensor:
        """The sum of a function of logits and what is given, over the chosen tokens."""


class TextGeneration(Task):
    """A softmax over the vocabulary at every token: the token that follows. `TextGenerator` decodes it."""

    name = "text-generation"
    auto_class = "AutoModelForCausalLM"
    architecture = "ForCausalLM"
    output_class = "CausalLMOutputWithPast"
    generates = True
    outputs = (LOGITS,)
    per_token = (LOGITS, HIDDEN)
    one_answer = False
    joins_pairs = False
    named_labels = False
    labels_tokens = True
    whole_labels = True
    metrics = {"perplexity": perplexity, "accuracy": next_accuracy}
    gives = "text"

    def head_settings(self, labels: Sequence[str]) -> dict[str, object]:
        return {}

    def encode_labels(self, labels: Sequence[object], names: Sequence[str], what: str) -> list[object]:
        """Completions stay unchanged: their tokens are known once the text is tokenized."""
        return list(labels)

    def loss(self, outputs: NextTokensRead, labels: Tensor, settings: LossSettings) -> tuple[Tensor, Tensor]:
        known_BS = labels != NO_LABEL
        return outputs.total(_surprise, known_BS, labels), known_BS.sum().float()

    def distances(
        self, mine: ModelOutputs, theirs: ModelOutputs, mask_BS: Tensor | None, divergence: Divergence
    ) -> tuple[Tensor, Tensor | None]:
        """For two forms that return all logits; a teacher compares `NextTokens` part by part instead."""
        return divergence(mine.logits, theirs.logits), None if mask_BS is None else mask_BS.float()

    def predictions(
        self, outputs: Outputs, mask_BS: Array | None, pooling: Pooling | None = None, labels: Tensor | None = None
    ) -> list[Array]:
        """Each label's surprise and the most likely token, shape (S, 2); without labels, only the token."""
        if labels is None:
            return list(outputs[LOGITS].argmax(-1))
        import torch

        rows = zip(torch.from_numpy(outputs[LOGITS]), labels.clamp(min=0), strict=True)
        return [next_token_predictions(logits_SV, labels_S) for logits_SV, labels_S in rows]

    def compared(self, predicted: Sequence[object], truth: Sequence[object]) -> tuple[Array, Array]:
        return labelled_tokens(predicted, truth)

    def kept(self, outputs: Outputs, batch: BatchRead) -> Outputs:
        """Not logits over a vocabulary, only the chosen tokens and each label's surprise."""
        kept = {CHOSEN: outputs[LOGITS].argmax(-1)}
        if batch.labels is None:
            return kept
        import torch

        labels_BS = torch.from_numpy(batch.labels.astype(np.int64))
        rows = self.predictions(outputs, batch.attended, labels=labels_BS)
        return {**kept, SURPRISE: np.stack([row_S2[:, 0] for row_S2 in rows])}

    def answers(self, outputs: Outputs, batch: BatchRead, pooling: Pooling | None) -> list[Array]:
        return list(np.stack([outputs[SURPRISE], outputs[CHOSEN]], -1))

    def judged(self, outputs: list[Outputs], batches: Sequence[BatchRead]) -> Array:
        return np.concatenate([attended(one[CHOSEN], batch) for one, batch in zip(outputs, batches, strict=True)])

    def decode(
        self, outputs: Outputs, rows: Sequence[RowRead], labels: Sequence[str], pooling: Pooling | None
    ) -> NoReturn:
        raise UnsupportedError(f"{self.name} writes texts; finegates_export.load gives a TextGenerator for its bundles")

    def answer_tensors(self, labels: Sequence[str]) -> tuple[AnswerTensor, ...]:
        return ()

    def answer_schema(self) -> dict[str, Schema]:
        return {}

    def as_json(self, result: Any) -> JsonObject:
        return {"text": result.text}

    def triton_refusal(self, outputs: Collection[str]) -> str | None:
        return f"{self.name}: Triton repositories do not keep a cache; use finegates_export.load instead"


def next_token_predictions(logits_NV: Tensor, labels_N: Tensor) -> Array:
    """For each token the negative logarithm of its label's probability, and the most likely label; shape (N, 2)."""
    from torch.nn import functional

    surprise_N = functional.cross_entropy(logits_NV.float(), labels_N, reduction="none")
    likeliest_N = logits_NV.argmax(-1)
    return np.stack([surprise_N.cpu().double().numpy(), likeliest_N.cpu().double().numpy()], -1)


def _surprise(logits_NV: Tensor, labels_N: Tensor) -> Tensor:
    from torch.nn import functional

    return functional.cross_entropy(logits_NV, labels_N, reduction="sum")
