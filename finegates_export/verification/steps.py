"""Forms with a cache: a whole text in one call, or piece by piece, and text that a form writes itself.

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
"""Tokens that the gated model writes, for every form to choose the same."""


def positions_of(mask_BT: Array) -> Array:
    """Where each token lies in its row, shape (B, T): padding on the left does not count."""
    return np.clip(mask_BT.cumsum(1) - 1, 0, None).astype(np.int64)


@dataclass(frozen=True)
class CachedForm:
    """A form of a decoder, called with ids and their mask."""

    run: Callable[[dict[str, Array]], Outputs]
    """From the graph's inputs to its outputs, by name."""
    layout: CacheLayout
    stepwise: bool = True
    """Whether rows that are to be read in steps are; otherwise they are read at once, which takes less time."""

    def __call__(self, inputs: dict[str, Array]) -> Outputs:
        """Logits and last hidden state of every token, read in one call."""
        return self._call(inputs, 0, inputs[IDS].shape[1], self.layout.empty(len(inputs[IDS])))[0]

    def in_steps(self, inputs: dict[str, Array], steps: tuple[int, ...]) -> Outputs:
        """The same, read so many tokens at a time."""
        if not self.stepwise:
            return self(inputs)
        past, start, pieces = self.layout.empty(len(inputs[IDS])), 0, []
        for new in steps:
            outputs, past = self._call(inputs, start, start + new, past)
            pieces.append(outputs)
            start += new
        return {name: np.concatenate([piece[name] for piece in pieces], axis=1) for name in pieces[0]}

    def write(self, batch: Batch, count: int) -> Batch:
        """A batch with so many tokens behind each row, always the likeliest.

        Args:
            batch: the prompts.
            count: tokens to write; the end of a text does not stop it.
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
    """Whether each token that the gated model wrote is the form's choice too, shape (B, written).

    Args:
        expected_BSV: the gated model's logits.
        found_BSV: the form's.
        written: tokens at the rows' ends.
        tie: words whose logits in the gated model differ by no more are the same choice: rounding decides there.
    """
    before, after = (logits[:, -written - 1 : -1] for logits in (expected_BSV, found_BSV))
    chosen = np.take_along_axis(before, after.argmax(-1)[..., None], axis=-1)[..., 0]
    return np.asarray(before.max(-1) - chosen <= tie)
