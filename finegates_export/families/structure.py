"""The vocabulary in which a family describes a model: linears, and the units that couple them.

A *unit* is shared by matrices and can be removed exactly (docs/exactness.md): a feed-forward neuron is a row of
`up` and a column of `down`; a V/O dim is a row of V and a column of O; a Q/K dim is a row of Q and one of K, or a pair
of rows of each under rotary embeddings. The other side of each of these matrices reads from, or writes to, the
residual stream.

Where several query heads share a KV head (grouped queries), a *head* is the KV head with its group: Q and O then hold
each of its rows and columns once per query head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

UnitKind = Literal["qk", "vo", "ffn"]
Axis = Literal["row", "column"]
AttentionKind = Literal["plain", "relative", "rotary", "disentangled", "causal", "causal-rotary"]
ROTARY: tuple[AttentionKind, ...] = ("rotary", "causal-rotary")
"""Kinds that rotate Q and K by position, dims d and d + head_dim / 2 together."""


@dataclass(frozen=True)
class LinearSide:
    """One side of one linear: its rows (outputs) or its columns (inputs), or one of several equal blocks of rows."""

    linear: str
    """Path of the linear in the model, as `named_modules` spells it."""
    axis: Axis
    block: int = 0
    blocks: int = 1
    """Some families store linears fused, one block of rows each (ModernBERT's Wqkv: 3)."""
    copies: int = 1
    """Consecutive repeats of each head's rows: once per query head that shares the KV head."""

    @property
    def other(self) -> LinearSide:
        """The opposite side of the same linear, shared by its blocks."""
        return LinearSide(self.linear, "column" if self.axis == "row" else "row")

    @property
    def whole(self) -> LinearSide:
        """The same side of the whole linear."""
        return LinearSide(self.linear, self.axis)

    @property
    def name(self) -> str:
        """The name of the side's gate vector in a run folder."""
        return f"{self.linear}.{self.axis}" + (f".{self.block}" if self.blocks > 1 else "")


@dataclass(frozen=True)
class UnitGroup:
    """The units of one kind in one layer, ordered as the linears store them: head-major for attention."""

    layer: int
    kind: UnitKind
    sides: tuple[LinearSide, ...]
    """The sides that hold the units: Q and K; V and O; up, the factor if there is one, and down."""
    heads: int
    """Attention heads (KV heads where queries are grouped); 1 for the feed-forward network."""
    width: int
    """Units per head."""
    rows_per_unit: int = 1
    """2 for rotary pairs: unit u of a head is rows u and u + width of it."""
    needs_all: bool = False
    """Whether a unit is dead only if all its sides are zero, not if any is (terms beside Q K^T read them too)."""
    tied: bool = False
    """Whether a unit is removed in all heads or in none (a norm over a head's dims, shared by all heads)."""

    @property
    def size(self) -> int:
        """Number of units in the group."""
        return self.heads * self.width

    def axes(self, side: LinearSide) -> tuple[int, int, int, int]:
        """The order of rows (or columns) on one of its sides: heads, copies of a head, halves of a pair, units."""
        return self.heads, side.copies, self.rows_per_unit, self.width

    def rows(self, side: LinearSide) -> int:
        """Number of rows (or columns) of the group on one of its sides."""
        return self.size * self.rows_per_unit * side.copies

    @property
    def unit_weights(self) -> int:
        """Weights of a unit per dim of the residual stream."""
        return self.rows_per_unit * sum(side.copies for side in self.sides)


@dataclass(frozen=True)
class AttentionMap:
    """The parts of a layer's attention."""

    module: str
    """The module that a ragged one replaces when the layer is shrunk."""
    query: LinearSide
    key: LinearSide
    value: LinearSide
    """Rows of the linears that make queries, keys and values."""
    output: str
    heads: int
    """Those of K and V."""
    head_dim: int
    group: int = 1
    """Query heads that share each of them."""
    kind: AttentionKind = "plain"
    scale: float | None = None
    """Scale of Q K^T; None for 1/sqrt(head_dim)."""
    dropout: float = 0.0
    """Dropout of the attention probabilities, in training."""
    position_linears: tuple[str, ...] = ()
    """Linears of position terms, with the same heads and dims as Q and K."""
    needs_all: bool = False
    """See `UnitGroup`: position terms with their own linears read Q and K too."""
    norms: tuple[str, ...] = ()
    """RMSNorms over a head's dims after Q and K, each shared by all heads: Q's, then K's."""

    @property
    def softmax_scale(self) -> float:
        """Scale of Q K^T, regardless of what is left of the head."""
        return self.head_dim**-0.5 if self.scale is None else self.scale

    @property
    def output_inside(self) -> bool:
        """Whether the replaced module holds the output projection too."""
        return self.output.startswith(f"{self.module}.")


@dataclass(frozen=True)
class FeedForwardMap:
    """The parts of a layer's feed-forward network."""

    module: str
    """The module that is replaced if no neuron is left."""
    up: LinearSide
    """Rows that are activated."""
    down: str
    intermediate_size: int
    activation: str
    """The activation's name, as the config spells it."""
    factor: LinearSide | None = None
    """Rows that multiply the activated ones (gated networks)."""

    @property
    def down_inside(self) -> bool:
        """Whether the replaced module holds `down` too."""
        return self.down.startswith(f"{self.module}.")


@dataclass(frozen=True)
class LayerMap:
    """One transformer layer."""

    index: int
    attention: AttentionMap
    feed_forward: FeedForwardMap

    def roles(self) -> dict[str, str]:
        """The gated linears by role; several roles share a linear if a family stores them fused."""
        attention, feed_forward = self.attention, self.feed_forward
        return {
            "query": attention.query.linear,
            "key": attention.key.linear,
            "value": attention.value.linear,
            "output": attention.output,
            "up": feed_forward.up.linear,
            "down": feed_forward.down,
        }

    def linears(self) -> tuple[str, ...]:
        """The gated linears, each once: Q, K, V, O, up, down."""
        factor = self.feed_forward.factor
        paths = [*self.roles().values(), *([factor.linear] if factor else [])]
        return tuple(dict.fromkeys(paths))

    def groups(self) -> tuple[UnitGroup, UnitGroup, UnitGroup]:
        """The layer's units: Q/K dims, V/O dims, feed-forward neurons."""
        attention, feed_forward = self.attention, self.feed_forward
        pair = 2 if attention.kind in ROTARY else 1
        qk = (replace(attention.query, copies=attention.group), attention.key)
        vo = (attention.value, LinearSide(attention.output, "column", copies=attention.group))
        factor = (feed_forward.factor,) if feed_forward.factor else ()
        ffn = (feed_forward.up, *factor, LinearSide(feed_forward.down, "column"))
        return (
            UnitGroup(
                self.index, "qk", qk, attention.heads, attention.head_dim // pair, rows_per_unit=pair,
                needs_all=attention.needs_all or bool(attention.norms), tied=bool(attention.norms),
            ),
            UnitGroup(self.index, "vo", vo, attention.heads, attention.head_dim),
            UnitGroup(self.index, "ffn", ffn, 1, feed_forward.intermediate_size),
        )  # fmt: skip


@dataclass(frozen=True)
class Structure:
    """Everything that gates, plan and slicing need to know about a model, without weights."""

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
        """Elements of the layers' linear weights: the total for the removed share."""
        return sum(group.unit_weights * group.size * self.hidden_size for group in self.groups())


def rows_of(linear: str, block: int = 0, blocks: int = 1) -> LinearSide:
    """The rows of a linear, or one of their equal blocks."""
    return LinearSide(linear, "row", block, blocks)
