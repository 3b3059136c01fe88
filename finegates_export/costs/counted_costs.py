"""A decoder's costs where one thing dominates: bytes to read for a token, operations for a prompt.

Writing a token reads every weight and multiplies it once: memory dominates. Reading a prompt multiplies each weight by
every token: arithmetic dominates. Both are sums of products of widths, so they are counted, not measured; the time of a
byte or an operation on this machine comes from two whole models (see `SpeedProbe.timed`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from finegates_export.common.shapes import Shape
from finegates_export.costs.grid import Grid, Values
from finegates_export.families.structure import LayerMap, Structure

Phase = Literal["prefill", "decode"]
PHASES: tuple[Phase, ...] = ("prefill", "decode")
"""Reading a prompt of a shape; writing one token a row behind as many as the shape says."""
BYTES, MULTIPLY_ADD = 4, 2


class SublayerCosts(Protocol):
    """What the halves of a layer cost by their widths: measured (`LayerCosts`) or counted."""

    @property
    def attention(self) -> Grid:
        """By heads of keys and values, Q/K dims a head, V/O dims a head."""

    @property
    def feed_forward(self) -> Grid:
        """By neurons."""

    def attention_ms(self, heads: npt.ArrayLike, qk: npt.ArrayLike, vo: npt.ArrayLike) -> Values:
        """Milliseconds of attention; arrays broadcast against each other."""

    def feed_forward_ms(self, neurons: npt.ArrayLike) -> Values:
        """Milliseconds of a feed-forward network."""


@dataclass(frozen=True, eq=False)
class CountedCosts:
    """The costs of layers of one form: of a byte or an operation each, or of what these take (see `times`)."""

    attention: Grid
    feed_forward: Grid

    def attention_ms(self, heads: npt.ArrayLike, qk: npt.ArrayLike, vo: npt.ArrayLike) -> Values:
        """See `SublayerCosts`."""
        return self.attention.at(heads, qk, vo)

    def feed_forward_ms(self, neurons: npt.ArrayLike) -> Values:
        """See `SublayerCosts`."""
        return self.feed_forward.at(neurons)

    def times(self, each: float) -> CountedCosts:
        """The costs where a byte, or an operation, takes so many milliseconds."""
        return CountedCosts(
            *(Grid(grid.axes, each * grid.milliseconds) for grid in (self.attention, self.feed_forward))
        )


def counted_costs(structure: Structure, shape: Shape, phase: Phase) -> tuple[CountedCosts, ...]:
    """Count for every layer; layers of one form share their costs.

    Args:
        structure: the unpruned model's.
        shape: the prompt's, or the rows and the tokens behind which one more is written.
        phase: what is done.
    """
    found: dict[tuple[int, ...], CountedCosts] = {}
    return tuple(
        found.setdefault(_form(layer), _count(layer, structure.hidden_size, shape, phase)) for layer in structure.layers
    )


def _form(layer: LayerMap) -> tuple[int, ...]:
    attention, network = layer.attention, layer.feed_forward
    return attention.heads, attention.group, attention.head_dim, network.intermediate_size, _matrices(layer)


def _count(layer: LayerMap, hidden: int, shape: Shape, phase: Phase) -> CountedCosts:
    attention, tokens = layer.attention, shape.batch * shape.sequence
    # Q and O have the rows of a dim in every head that shares the keys, K and V once.
    weights = hidden * (attention.group + 1)
    if phase == "decode":
        each, neuron = BYTES * (weights + tokens), BYTES * hidden
    else:
        each = MULTIPLY_ADD * tokens * (weights + attention.group * shape.sequence)
        neuron = MULTIPLY_ADD * tokens * hidden
    whole = (attention.heads, attention.head_dim, attention.head_dim)
    corners = [each * h * (q + v) for h, q, v in product(*((0, most) for most in whole))]
    neurons = layer.feed_forward.intermediate_size
    # A sum of products of single widths is what a grid of its ends gives in between.
    return CountedCosts(
        Grid(tuple((0, most) for most in whole), np.array(corners, np.float64).reshape(2, 2, 2)),
        Grid(((0, neurons),), np.array([0.0, neuron * _matrices(layer) * neurons])),
    )


def _matrices(layer: LayerMap) -> int:
    """Of a feed-forward network: a gated one has a third."""
    return 2 if layer.feed_forward.factor is None else 3
