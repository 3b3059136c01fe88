"""What two forms of a model predict, by task: whether they agree, and how well they meet the labels.

Shapes: B rows, S tokens, C labels, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from finegates_export.common.pooling import Pooling, normalized, pool
from finegates_export.common.tasks import END, HIDDEN, LOGITS, NO_LABEL, SENTENCE, START, Task
from finegates_export.verification.inputs import Batch

Array = npt.NDArray[Any]
Outputs = dict[str, Array]
"""What a form returns for one batch, by output name."""
CHOSEN = "chosen"
"""The word with the largest logit at each token, shape (B, S)."""
EQUAL_PREDICTIONS = "agrees with the gated model on {:.2%} of the predictions"
AGREEMENT = {
    "score": "correlates with the gated model's scores at {:.2%}",
    "vector": "gives vectors of a mean cosine similarity of {:.2%} to the gated model's",
}
"""How a share of agreement is told, where it is not one of equal predictions."""


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
        return {CHOSEN: outputs[LOGITS].argmax(-1)} if self.task.generates else outputs

    def told(self, agreement: float) -> str:
        """A share of agreement in words."""
        return AGREEMENT.get(self.task.unit, EQUAL_PREDICTIONS).format(agreement)

    def agreement(self, before: list[Outputs], after: list[Outputs], batches: list[Batch]) -> float | None:
        """Share of equal predictions; a correlation for scores, a mean cosine similarity for vectors.

        None where scores cannot be correlated.
        """
        if self.task.unit == "vector":
            pairs = [(self._vectors(a, b), self._vectors(c, b)) for a, c, b in zip(before, after, batches, strict=True)]
            cosines = [(normalized(one) * normalized(other)).sum(-1) for one, other in pairs]
            return float(np.concatenate([cosine.reshape(-1) for cosine in cosines]).mean())
        one, other = (self._predictions(side, batches) for side in (before, after))
        if self.task.unit == "score":
            return correlation(other, one)
        equal = one == other
        return float((equal.all(-1) if self.task.unit == "span" else equal).mean())

    def metric(self, outputs: list[Outputs], batches: list[Batch]) -> float | None:
        """How well predictions meet the labels; None without labels.

        The share of right rows, of right decisions, of right tokens, of answers right at both ends, of the text's own
        next tokens; for scores, and for the similarity of the two texts of a pair, Pearson's correlation.
        """
        if self.task.generates:
            return _next_tokens(outputs, batches)
        chosen = [(o, batch) for o, batch in zip(outputs, batches, strict=True) if batch.labels is not None]
        if not chosen:
            return None
        labelled, own = [o for o, _ in chosen], [batch for _, batch in chosen]
        labels = [batch.labels for batch in own if batch.labels is not None]
        if self.task.unit == "vector":
            vectors = [normalized(self._vectors(o, batch)) for o, batch in zip(labelled, own, strict=True)]
            cosines = [(v[0::2] * v[1::2]).sum(-1) for v in vectors]
            return correlation(np.concatenate(cosines), np.concatenate(labels))
        predicted = self._predictions(labelled, own)
        if self.task.unit == "token":
            masks = [batch.attended for batch in own]
            counted = [y[m] for y, m in zip(labels, masks, strict=True) if m is not None]
            truth = np.concatenate(counted)
            known = truth != NO_LABEL
            return float((predicted[known] == truth[known]).mean()) if known.any() else None
        truth = np.concatenate(labels)
        if self.task.unit == "score":
            return correlation(predicted, truth)
        right = predicted == truth
        return float((right.all(-1) if self.task.unit == "span" else right).mean())

    def _predictions(self, outputs: list[Outputs], batches: list[Batch]) -> Array:
        one = _PREDICTIONS[self.task.unit]
        return np.concatenate([one(o, batch) for o, batch in zip(outputs, batches, strict=True)])

    def _vectors(self, outputs: Outputs, batch: Batch) -> Array:
        """One vector a row for an embedding, else one an attended token."""
        if SENTENCE in outputs:
            return outputs[SENTENCE]
        mask = batch.attended
        attended = np.ones(outputs[HIDDEN].shape[:2], bool) if mask is None else mask
        return outputs[HIDDEN][attended] if self.pooling is None else pool(outputs[HIDDEN], attended, self.pooling)


def correlation(predicted: Array, truth: Array) -> float | None:
    """Pearson's; 0 for a constant prediction, None where the truth itself is constant."""
    if np.ptp(truth) == 0:
        return None
    return float(np.corrcoef(predicted, truth)[0, 1]) if np.ptp(predicted) > 0 else 0.0


def _row(outputs: Outputs, _batch: Batch) -> Array:
    return outputs[LOGITS].argmax(-1)


def _label(outputs: Outputs, _batch: Batch) -> Array:
    return outputs[LOGITS] > 0


def _score(outputs: Outputs, _batch: Batch) -> Array:
    return outputs[LOGITS][:, 0]


def _token(outputs: Outputs, batch: Batch) -> Array:
    predicted_BS = outputs[LOGITS].argmax(-1)
    return predicted_BS if batch.attended is None else predicted_BS[batch.attended]


def _span(outputs: Outputs, batch: Batch) -> Array:
    mask = batch.attended
    ends = [outputs[name] if mask is None else np.where(mask, outputs[name], -np.inf) for name in (START, END)]
    return np.stack([logits_BS.argmax(-1) for logits_BS in ends], -1)


def _next(outputs: Outputs, batch: Batch) -> Array:
    chosen_BS = outputs[CHOSEN]
    return chosen_BS if batch.attended is None else chosen_BS[batch.attended]


def _next_tokens(outputs: list[Outputs], batches: list[Batch]) -> float | None:
    """The share of the tokens of real rows that were chosen where they come next."""
    right: list[Array] = []
    for one, batch in zip(outputs, batches, strict=True):
        mask = batch.attended
        if batch.real and mask is not None:
            follows = mask[:, :-1] & mask[:, 1:]
            right.append((one[CHOSEN][:, :-1] == batch.inputs["input_ids"][:, 1:])[follows])
    return float(np.concatenate(right).mean()) if sum(map(len, right)) else None


_PREDICTIONS: dict[str, Callable[[Outputs, Batch], Array]] = {
    "row": _row, "label": _label, "score": _score, "token": _token, "span": _span,
    "next": _next,
}  # fmt: skip
