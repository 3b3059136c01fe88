"""Forms with a cache: a whole text in one call, or piece by piece, and generation.

Rows are padded on the left, as decoders read them. Shapes: B rows, S new tokens, T tokens with those of the past.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from finegates_export.common.cache_layout import IDS, MASK, PAST, POSITIONS, PRESENT, CacheLayout
from finegates_export.common.tasks import HIDDEN, LOGITS
from finegates_export.common.tasks.arrays import Array, Outputs
from finegates_export.verification.inputs import Batch

WRITTEN = 64
"""Number of tokens that the gated model generates and every form must match."""


def positions_of(mask_BT: Array) -> Array:
    """Position of each token in its row, shape (B, T), not counting padding on the left."""
    return np.clip(mask_BT.cumsum(1) - 1, 0, None).astype(np.int64)


@dataclass(frozen=True)
class CachedForm:
    """A form of a decoder, called with ids and their mask."""

    run: Callable[[dict[str, Array]], Outputs]
    """Maps the graph's inputs to its outputs, by name."""
    layout: CacheLayout
    stepwise: bool = True
    """Whether to read rows in their steps; otherwise in one call, which is faster."""

    def __call__(self, inputs: dict[str, Array]) -> Outputs:
        """Logits and last hidden state of every token, read in one call."""
        return self._call(inputs, 0, inputs[IDS].shape[1], self.layout.empty(len(inputs[IDS])))[0]

    def in_steps(self, inputs: dict[str, Array], steps: tuple[int, ...]) -> Outputs:
        """The same, read in steps of these token counts."""
        if not self.stepwise:
            return self(inputs)
        past, start, pieces = self.layout.empty(len(inputs[IDS])), 0, []
        for new in steps:
            outputs, past = self._call(inputs, start, start + new, past)
            pieces.append(outputs)
            start += new
        return {name: np.concatenate([piece[name] for piece in pieces], axis=1) for name in pieces[0]}

    def write(self, batch: Batch, count: int) -> Batch:
        """A batch with each row continued by this many tokens, always the most likely.

        Args:
            batch: the prompts.
            count: tokens to generate; an end token does not stop it.
        """
        inputs, past, start = {name: batch.inputs[name] for name in (IDS, MASK)}, self.layout.empty(batch.rows), 0
        prompt = inputs[IDS].shape[1]
        for _ in range(count):
            outputs, past = self._call(inputs, start, inputs[IDS].shape[1], past)
            start = inputs[IDS].shape[1]
            chosen_B1 = outputs[LOGITS][:, -1].argmax(-1)[:, None].astype(np.int64)
            more = {IDS: chosen_B1, MASK: np.ones_like(chosen_B1)}
            inputs = {name: np.concatenate([inputs[name], more[name]], axis=1) for name in inputs}
        return Batch(inputs, steps=(prompt, *[1] * count), written=count)

    def _call(
        self, inputs: dict[str, Array], start: int, end: int, past: dict[str, Array]
    ) -> tuple[Outputs, dict[str, Array]]:
        mask_BT = inputs[MASK][:, :end]
        found = self.run(
            {
                IDS: inputs[IDS][:, start:end],
                MASK: mask_BT,
                POSITIONS: positions_of(mask_BT)[:, start:],
                **past,
            }
        )
        present = {name: found[name.replace(PAST, PRESENT)] for name in self.layout.past_names}
        return {name: found[name] for name in (LOGITS, HIDDEN) if name in found}, present


def same_choices(expected_BSV: Array, found_BSV: Array, written: int, tie: float) -> Array:
    """Whether each token that the gated model generated is the form's choice too, shape (B, written).

    Args:
        expected_BSV: the gated model's logits.
        found_BSV: the form's.
        written: number of generated tokens at the rows' ends.
        tie: words whose logits in the gated model differ by no more are the same choice: rounding decides there.
    """
    before, after = (logits[:, -written - 1 : -1] for logits in (expected_BSV, found_BSV))
    chosen = np.take_along_axis(before, after.argmax(-1)[..., None], axis=-1)[..., 0]
    return np.asarray(before.max(-1) - chosen <= tie)
