"""What every link of the chain runs on: the run's own rows where it kept some, and random ids at awkward lengths.

Shapes: B rows, S tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]
REAL_BATCH = 16
RANDOM_BATCH = 2
ODD_LENGTH = 13


@dataclass(frozen=True)
class Batch:
    """One call of the model."""

    inputs: dict[str, Array]
    """int64 arrays of shape (B, S), by input name."""
    labels: Array | None
    """Labels of real rows, shape (B,)."""

    @property
    def attended(self) -> npt.NDArray[np.bool_]:
        """Which tokens count, shape (B, S)."""
        return self.inputs["attention_mask"].astype(bool)


def make_inputs(
    samples: dict[str, Tensor] | None, names: tuple[str, ...], vocab_size: int, max_length: int, seed: int = 0
) -> list[Batch]:
    """The batches of a verification.

    Args:
        samples: the run's tokenized rows, right-padded, with `labels`; None where it kept none.
        names: the model's inputs.
        vocab_size: random ids lie below it.
        max_length: the longest sequence the model takes.
        seed: of the random ids.

    Returns:
        Real rows first, sorted by length; then random ones of lengths 1, odd and maximum, partly padded.
    """
    batches = _real(samples, names) if samples else []
    generator = np.random.default_rng(seed)
    for length in sorted({1, min(ODD_LENGTH, max_length), max_length}):
        batches.append(_random(generator, names, vocab_size, length))
    return batches


def _real(samples: dict[str, Tensor], names: tuple[str, ...]) -> list[Batch]:
    arrays = {name: samples[name].numpy().astype(np.int64) for name in names if name in samples}
    labels = samples["labels"].numpy()
    lengths = arrays["attention_mask"].sum(1)
    order = np.argsort(lengths, kind="stable")
    batches = []
    for start in range(0, len(order), REAL_BATCH):
        rows = order[start : start + REAL_BATCH]
        longest = int(lengths[rows].max())
        inputs = {name: array[rows, :longest] for name, array in arrays.items()}
        for name in names:
            inputs.setdefault(name, np.zeros((len(rows), longest), np.int64))
        batches.append(Batch(inputs, labels[rows]))
    return batches


def _random(generator: np.random.Generator, names: tuple[str, ...], vocab_size: int, length: int) -> Batch:
    inputs = {name: np.zeros((RANDOM_BATCH, length), np.int64) for name in names}
    inputs["input_ids"] = generator.integers(0, vocab_size, (RANDOM_BATCH, length))
    inputs["attention_mask"] = np.ones((RANDOM_BATCH, length), np.int64)
    inputs["attention_mask"][1, max(1, length * 2 // 3) :] = 0
    return Batch(inputs, None)
