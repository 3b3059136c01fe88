"""The vocabulary in which a family describes a model: linears, and the units that couple them.

A *unit* is what two matrices share and what can be removed exactly (docs/exactness.md): a feed-forward neuron is a
row of `up` and a column of `down`; a V/O dim is a row of V and a column of O; a Q/K dim is a row of Q and one of K.
The other side of each of these matrices reads from, or writes to, the residual stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

UnitKind = Literal["qk", "vo", "ffn"]
Axis = Literal["row", "column"]


@dataclass(frozen=True)
class LinearSide:
    """One side of one linear: its rows (outputs) or its columns (inputs)."""

    linear: str
    """Path of the linear in the model, as `named_modules` spells it."""
    axis: Axis

    @property
    def other(self) -> LinearSide:
        """The opposite side of the same linear."""
        return LinearSide(self.linear, "column" if self.axis == "row" else "row")


@dataclass(frozen=True)
class UnitGroup:
    """The units of one kind in one layer, ordered as the linears store them: head-major for attention."""

    layer: int
    kind: UnitKind
    sides: tuple[LinearSide, ...]
    """The sides that hold the units; a unit whose row or column on one of them is zero is dead."""
    heads: int
    """Attention heads; 1 for the feed-forward network."""
    width: int
    """Units per head: `head_dim`, or `intermediate_size`."""

    @property
    def size(self) -> int:
        """Units in the group."""
        return self.heads * self.width


@dataclass(frozen=True)
class AttentionMap:
    """Where a layer's attention keeps its parts."""

    module: str
    """The module that is replaced by a ragged one when the layer is shrunk."""
    query: str
    key: str
    value: str
    output: str
    heads: int
    head_dim: int


@dataclass(frozen=True)
class FeedForwardMap:
    """Where a layer's feed-forward network keeps its parts."""

    up: str
    down: str
    intermediate_size: int
    activation: str
    """Path of the activation module or name, as the config spells it (`hidden_act`)."""


@dataclass(frozen=True)
class LayerMap:
    """One transformer layer."""

    index: int
    attention: AttentionMap
    feed_forward: FeedForwardMap

    def linears(self) -> tuple[str, ...]:
        """The gated linears: Q, K, V, O, up, down."""
        attention, feed_forward = self.attention, self.feed_forward
        return (
            attention.query, attention.key, attention.value, attention.output, feed_forward.up, feed_forward.down,
        )  # fmt: skip

    def groups(self) -> tuple[UnitGroup, UnitGroup, UnitGroup]:
        """The layer's units: Q/K dims, V/O dims, feed-forward neurons."""
        attention, feed_forward = self.attention, self.feed_forward
        qk = (LinearSide(attention.query, "row"), LinearSide(attention.key, "row"))
        vo = (LinearSide(attention.value, "row"), LinearSide(attention.output, "column"))
        ffn = (LinearSide(feed_forward.up, "row"), LinearSide(feed_forward.down, "column"))
        return (
            UnitGroup(self.index, "qk", qk, attention.heads, attention.head_dim),
            UnitGroup(self.index, "vo", vo, attention.heads, attention.head_dim),
            UnitGroup(self.index, "ffn", ffn, 1, feed_forward.intermediate_size),
        )


@dataclass(frozen=True)
class Structure:
    """What gates, plan and slicing need to know about a model; weights not included."""

    hidden_size: int
    layers: tuple[LayerMap, ...]

    def linears(self) -> tuple[str, ...]:
        """All gated linears, in layer order."""
        return tuple(name for layer in self.layers for name in layer.linears())

    def groups(self) -> Iterator[UnitGroup]:
        """All unit groups, in layer order."""
        for layer in self.layers:
            yield from layer.groups()

    @property
    def linear_weights(self) -> int:
        """Elements of the layers' linear weights: the whole of which `removed` is a share."""
        return sum(len(group.sides) * group.size * self.hidden_size for group in self.groups())
