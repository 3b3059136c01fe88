"""Arithmetic that several tasks share: on a graph's outputs in numpy, and for losses in torch.

Shapes: B rows, S tokens, C labels, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]
"""An array of any numbers."""
Outputs = dict[str, Array]
"""The outputs of one form of a model for one batch, by name."""


class ModelOutputs(Protocol):
    """What a model of transformers returned: tensors by their names."""

    def __getattr__(self, name: str) -> Tensor:
        """A tensor by its name."""


class BatchRead(Protocol):
    """A batch of the chain, as a task judges it."""

    @property
    def inputs(self) -> dict[str, Array]:
        """Arrays by input name."""

    @property
    def labels(self) -> Array | None:
        """Labels of real rows; None if there are none."""

    @property
    def groups(self) -> Array | None:
        """For rows that are ranked: the number of each one's query; None if it is not known."""

    @property
    def real(self) -> bool:
        """Whether the rows are the run's, not made up."""

    @property
    def attended(self) -> npt.NDArray[np.bool_] | None:
        """Which tokens count, shape (B, S); None for images."""


class RowRead(Protocol):
    """A row of a call of the model, as a task reads its answer."""

    @property
    def owner(self) -> int:
        """The number of the input it belongs to."""

    @property
    def given(self) -> Any:
        """That input."""

    @property
    def tokens(self) -> Any:
        """Its encoding, without padding."""

    @property
    def length(self) -> int:
        """Its number of tokens."""


def softmax(logits: Array) -> Array:
    """Probabilities over the last axis."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True, initial=-np.inf))
    return shifted / shifted.sum(-1, keepdims=True)


def by_label(labels: Sequence[str], values_C: Array) -> dict[str, float]:
    """A value for every label."""
    return {label: float(value) for label, value in zip(labels, values_C, strict=True)}


def correlation(predicted: Array, truth: Array) -> float | None:
    """Pearson's; 0 for a constant prediction, None if the truth itself is constant."""
    if np.ptp(truth) == 0:
        return None
    return float(np.corrcoef(predicted, truth)[0, 1]) if np.ptp(predicted) > 0 else 0.0


def stripped(given: str, start: int, end: int) -> tuple[str, int, int]:
    """A part of a text and its place, without the whitespace that some tokenizers count as part of a word."""
    text = given[start:end].rstrip()
    end = start + len(text)
    text = text.lstrip()
    return text, end - len(text), end


def labelled(
    outputs: list[Outputs], batches: Sequence[BatchRead]
) -> tuple[list[Outputs], list[BatchRead], list[Array]]:
    """Outputs, batches and labels of the batches that have labels."""
    chosen = [(one, batch) for one, batch in zip(outputs, batches, strict=True) if batch.labels is not None]
    labels = [batch.labels for _, batch in chosen if batch.labels is not None]
    return [one for one, _ in chosen], [batch for _, batch in chosen], labels


def count_of(labels: Tensor) -> Tensor:
    """How many labels there are, as a float on their device."""
    import torch

    return torch.tensor(float(labels.numel()), device=labels.device)
