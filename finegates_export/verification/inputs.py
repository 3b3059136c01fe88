"""The inputs of every link: the run's own rows if it kept any, and random ones.

Random text has awkward lengths; random images are normal noise.

Shapes: B rows, S tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from finegates_export.common.tasks import PIXELS, Task
from finegates_export.common.tasks.arrays import Array
from finegates_export.families.model_config import ModelConfig, image_shape

if TYPE_CHECKING:
    from torch import Tensor

    from finegates_export.families.family import Family

REAL_BATCH = 16
RANDOM_BATCH = 2
ODD_LENGTH = 13
LONGEST = 512
"""Maximum length of random rows, unless the run's own rows are longer."""
MASK = "attention_mask"
LABELS, GROUPS = "labels", "groups"


@dataclass(frozen=True)
class Batch:
    """One call of the model."""

    inputs: dict[str, Array]
    """Arrays by input name: int64 of shape (B, S), or pixels as float32."""
    labels: Array | None = None
    """Labels of real rows, in the task's format: one per row, a vector per row, one per token, or one per two rows."""
    groups: Array | None = None
    """For rows that are ranked: the number of each one's query; None if it is not known."""
    real: bool = False
    """Whether these are the run's own rows."""
    steps: tuple[int, ...] = ()
    """New tokens per call for forms with a cache that read rows piece by piece; empty means all in one call."""
    texts: tuple[object, ...] = ()
    """What the rows are made of, as `predict` or `generate` takes it; empty if only their tokens are known."""
    written: int = 0
    """Tokens at the rows' ends that the gated model generated, always the most likely."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.inputs.values())))

    @property
    def attended(self) -> npt.NDArray[np.bool_] | None:
        """Which tokens count, shape (B, S); None for images, where everything counts."""
        mask = self.inputs.get(MASK)
        return None if mask is None else mask.astype(bool)


def longest_sequence(family: Family, config: ModelConfig, max_length: int) -> int:
    """The length of the longest random rows: the model's maximum, within limits.

    Args:
        family: the model's family.
        config: its config.
        max_length: the run's maximum tokens per row.
    """
    return min(family.max_length(config), max(LONGEST, max_length))


def make_inputs(
    samples: dict[str, Tensor] | None,
    task: Task,
    config: ModelConfig,
    names: tuple[str, ...],
    longest: int,
    seed: int = 0,
) -> list[Batch]:
    """The batches of a verification.

    Args:
        samples: the run's rows as tensors, text right-padded, with `labels` if they have some; None if it kept none.
        task: the labels' task.
        config: the model's config: how many ids there are, or how large images are.
        names: the model's inputs.
        longest: length of the longest random row.
        seed: seed of random inputs.

    Returns:
        Real rows first, text sorted by length; then random ones: lengths 1, odd and longest, partly padded.
    """
    generator = np.random.default_rng(seed)
    if names == (PIXELS,):
        return [*(_real_images(samples) if samples else []), _random_images(generator, config)]
    batches = _real(samples, names, per_token=task.labels_tokens) if samples else []
    for length in sorted({1, min(ODD_LENGTH, longest), longest}):
        batches.append(_random(generator, names, config, length))
    return batches


def _real(samples: dict[str, Tensor], names: tuple[str, ...], *, per_token: bool) -> list[Batch]:
    arrays = {name: samples[name].numpy().astype(np.int64) for name in names if name in samples}
    labels = samples[LABELS].numpy() if LABELS in samples else None
    groups = samples[GROUPS].numpy() if GROUPS in samples else None
    lengths = arrays[MASK].sum(1)
    # Rows that share a label (the two texts of a scored pair) stay together.
    together = 1 if labels is None else len(lengths) // len(labels)
    order = np.argsort(lengths.reshape(-1, together).max(1), kind="stable")
    batches = []
    for start in range(0, len(order), REAL_BATCH // together):
        chosen = order[start : start + REAL_BATCH // together]
        rows = (chosen[:, None] * together + np.arange(together)).reshape(-1)
        length = int(lengths[rows].max())
        inputs = {name: array[rows, :length] for name, array in arrays.items()}
        for name in names:
            inputs.setdefault(name, np.zeros((len(rows), length), np.int64))
        truth = None if labels is None else labels[chosen]
        ranked = None if groups is None else groups[chosen]
        batches.append(
            Batch(inputs, truth[:, :length] if per_token and truth is not None else truth, ranked, real=True)
        )
    return batches


def _random(generator: np.random.Generator, names: tuple[str, ...], config: ModelConfig, length: int) -> Batch:
    inputs = {name: np.zeros((RANDOM_BATCH, length), np.int64) for name in names}
    inputs["input_ids"] = generator.integers(0, config.vocab_size, (RANDOM_BATCH, length))
    inputs[MASK] = np.ones((RANDOM_BATCH, length), np.int64)
    inputs[MASK][1, max(1, length * 2 // 3) :] = 0
    # A decoder's head finds a row's last token by the padding token's id, not by the mask.
    inputs["input_ids"][inputs[MASK] == 0] = getattr(config, "pad_token_id", None) or 0
    return Batch(inputs)


def _real_images(samples: dict[str, Tensor]) -> list[Batch]:
    pixels = samples[PIXELS].numpy()
    labels = samples[LABELS].numpy() if LABELS in samples else None
    starts = range(0, len(pixels), REAL_BATCH)
    chunks = [slice(start, start + REAL_BATCH) for start in starts]
    return [Batch({PIXELS: pixels[c]}, None if labels is None else labels[c], real=True) for c in chunks]


def _random_images(generator: np.random.Generator, config: ModelConfig) -> Batch:
    shape = (RANDOM_BATCH, *image_shape(config))
    return Batch({PIXELS: generator.standard_normal(shape).astype(np.float32)})
