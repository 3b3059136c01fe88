"""What goes, what stays, and why. Slicing decides nothing: every decision is in the plan.

"Dead" is judged on the folded float32 weights, so it does not matter who made them zero (docs/exactness.md has the
rules). Heads of one layer are padded to the widest of them with dead dims, which stay as zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from finegates_export.errors import InputError
from finegates_export.families.structure import LayerMap, LinearSide, Structure, UnitGroup
from finegates_export.gates.settle import Widths

Mask = npt.NDArray[np.bool_]
Dims = tuple[int, ...]

SIDE_WORDS = {"row": "rows", "column": "columns"}


@dataclass(frozen=True)
class AttentionPlan:
    """One layer's attention."""

    heads_before: int
    width_before: int
    heads: Dims
    """Kept heads, by their old numbers; empty: the sublayer is a constant."""
    qk: tuple[Dims, ...]
    """Per kept head its kept Q/K dims, by their old numbers within the head; equally many each."""
    vo: tuple[Dims, ...]
    """The same for V/O dims."""
    padding: int
    """Dead Q/K and V/O dims that stay as zeros so that the heads are equally wide."""
    why: str

    @property
    def qk_width(self) -> int:
        """Q/K dims per kept head."""
        return len(self.qk[0]) if self.qk else 0

    @property
    def vo_width(self) -> int:
        """V/O dims per kept head."""
        return len(self.vo[0]) if self.vo else 0

    def rows(self, dims: tuple[Dims, ...]) -> list[int]:
        """Positions in the linear of the kept dims, head-major."""
        return [head * self.width_before + dim for head, kept in zip(self.heads, dims, strict=True) for dim in kept]


@dataclass(frozen=True)
class FeedForwardPlan:
    """One layer's feed-forward network."""

    width_before: int
    neurons: Dims
    """Kept neurons; empty: the sublayer is a constant."""
    constants: Dims
    """Removed neurons that output the constant act(0): it is folded into down's bias."""
    padding: int
    why: str


@dataclass(frozen=True)
class LayerPlan:
    """One layer."""

    layer: int
    attention: AttentionPlan
    feed_forward: FeedForwardPlan

    def kept_weights(self, hidden_size: int) -> int:
        """Linear weights that stay."""
        attention = self.attention
        dims = len(attention.heads) * (attention.qk_width + attention.vo_width)
        return 2 * hidden_size * (dims + len(self.feed_forward.neurons))


@dataclass(frozen=True)
class ShrinkPlan:
    """The whole model. `str(plan)` is the table that users read."""

    hidden_size: int
    layers: tuple[LayerPlan, ...]
    linear_weights: int
    """Elements of the layers' linear weights in the base."""

    @property
    def kept_weights(self) -> int:
        """Elements of the layers' linear weights that stay, padding included."""
        return sum(layer.kept_weights(self.hidden_size) for layer in self.layers)

    @property
    def removed(self) -> float:
        """1 - kept / base: the share that training aims at and that reports quote."""
        return 1.0 - self.kept_weights / self.linear_weights

    @property
    def padding_weights(self) -> int:
        """Elements that are kept though dead, so that widths fit."""
        units = sum(layer.attention.padding + layer.feed_forward.padding for layer in self.layers)
        return 2 * self.hidden_size * units

    @property
    def attention_layers(self) -> int:
        """Layers with at least one head left."""
        return sum(bool(layer.attention.heads) for layer in self.layers)

    @property
    def feed_forward_layers(self) -> int:
        """Layers with at least one neuron left."""
        return sum(bool(layer.feed_forward.neurons) for layer in self.layers)

    def kept_flops(self, batch: int, sequence: int) -> float:
        """Share of the unpruned layers' floating-point operations that stays: linears, Q K^T and A V."""
        return self._flops(batch, sequence, kept=True) / self._flops(batch, sequence, kept=False)

    def flops(self, batch: int, sequence: int) -> int:
        """Floating-point operations of the layers as they stay."""
        return self._flops(batch, sequence, kept=True)

    def _flops(self, batch: int, sequence: int, *, kept: bool) -> int:
        per_token = 2 * (self.kept_weights if kept else self.linear_weights)
        total = per_token * batch * sequence
        for layer in self.layers:
            attention = layer.attention
            if kept:
                dims = len(attention.heads) * (attention.qk_width + attention.vo_width)
            else:
                dims = 2 * attention.heads_before * attention.width_before
            total += 2 * dims * batch * sequence * sequence
        return total

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON types."""
        return {**asdict(self), "removed": self.removed, "padding_weights": self.padding_weights}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ShrinkPlan:
        """Rebuild from `to_json`.

        Raises:
            InputError: something is missing or not understood.
        """
        try:
            layers = tuple(
                LayerPlan(
                    entry["layer"],
                    AttentionPlan(**_tuples(entry["attention"])),
                    FeedForwardPlan(**_tuples(entry["feed_forward"])),
                )
                for entry in values["layers"]
            )
            return cls(values["hidden_size"], layers, values["linear_weights"])
        except (KeyError, TypeError) as error:
            raise InputError(f"not a shrink plan of this version: {error}") from error

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{'layer':>5}  {'heads':>9}  {'Q/K':>9}  {'V/O':>9}  {'FFN':>13}  {'padding':>7}  why"
        for layer in self.layers:
            attention, feed_forward = layer.attention, layer.feed_forward
            heads = f"{attention.heads_before} -> {len(attention.heads)}"
            qk = f"{attention.width_before} -> {attention.qk_width}"
            vo = f"{attention.width_before} -> {attention.vo_width}"
            ffn = f"{feed_forward.width_before} -> {len(feed_forward.neurons)}"
            padding = attention.padding + feed_forward.padding
            why = "; ".join(reason for reason in (attention.why, feed_forward.why) if reason) or "nothing is dead"
            yield f"{layer.layer:>5}  {heads:>9}  {qk:>9}  {vo:>9}  {ffn:>13}  {padding:>7}  {why}"
        yield (
            f"removed {self.removed:.1%} of the layers' linear weights "
            f"({self.linear_weights:,} -> {self.kept_weights:,}, {self.padding_weights:,} of them padding)"
        )


def make_plan(model: nn.Module, structure: Structure, widths: Widths) -> ShrinkPlan:
    """Read the folded weights and decide what goes.

    Args:
        model: the folded model.
        structure: where its linears are.
        widths: the widths the target likes; dead dims are kept to reach them.
    """
    layers = tuple(_plan_layer(model, layer, widths) for layer in structure.layers)
    return ShrinkPlan(structure.hidden_size, layers, structure.linear_weights)


def _plan_layer(model: nn.Module, layer: LayerMap, widths: Widths) -> LayerPlan:
    qk, vo, ffn = layer.groups()
    return LayerPlan(layer.index, _plan_attention(model, qk, vo, widths), _plan_feed_forward(model, ffn, widths))


def _plan_attention(model: nn.Module, qk: UnitGroup, vo: UnitGroup, widths: Widths) -> AttentionPlan:
    qk_dead, qk_why = _dead(model, qk)
    vo_dead, vo_why = _dead(model, vo)
    qk_live_hd = ~qk_dead.reshape(qk.heads, qk.width)
    vo_live_hd = ~vo_dead.reshape(vo.heads, vo.width)
    heads = tuple(int(head) for head in np.flatnonzero(vo_live_hd.any(1)))
    reasons = []
    if len(heads) < vo.heads:
        reasons.append(f"{vo.heads - len(heads)} heads have no V/O dim left")
    reasons += [*vo_why, *qk_why]
    options = widths.head_options(qk.width)
    qk_dims = _equal_width(qk_live_hd, heads, options)
    vo_dims = _equal_width(vo_live_hd, heads, options)
    kept = sum(map(len, qk_dims)) + sum(map(len, vo_dims))
    live = int(qk_live_hd[list(heads)].sum() + vo_live_hd[list(heads)].sum())
    return AttentionPlan(qk.heads, qk.width, heads, qk_dims, vo_dims, kept - live, "; ".join(reasons))


def _plan_feed_forward(model: nn.Module, ffn: UnitGroup, widths: Widths) -> FeedForwardPlan:
    up, down = ffn.sides
    silent = _zero(model, up)
    unread = _zero(model, down)
    dead = silent | unread
    live = ~dead
    neurons = _fill(live, _round_up(int(live.sum()), widths.ffn_options(ffn.width)))
    removed = set(range(ffn.width)) - set(neurons)
    constants = tuple(sorted(int(i) for i in np.flatnonzero(silent & ~unread) if int(i) in removed))
    reasons = []
    if unread.any():
        reasons.append(f"{int(unread.sum())} FFN neurons: down's column is 0")
    if (silent & ~unread).any():
        reasons.append(f"{int((silent & ~unread).sum())} FFN neurons: up's row and bias are 0")
    return FeedForwardPlan(ffn.width, neurons, constants, len(neurons) - int(live.sum()), "; ".join(reasons))


def _dead(model: nn.Module, group: UnitGroup) -> tuple[Mask, list[str]]:
    """Which units of an attention group are dead on either side, and on which side how many first."""
    dead = np.zeros(group.size, bool)
    reasons = []
    for side in group.sides:
        zero = _zero(model, side)
        fresh = int((zero & ~dead).sum())
        if fresh:
            name = side.linear.rsplit(".", 2)[-1 if "dense" not in side.linear else -2]
            reasons.append(
                f"{fresh} {group.kind.upper()[0]}/{group.kind.upper()[1]} dims: {name}'s {SIDE_WORDS[side.axis]} are 0"
            )
        dead |= zero
    return dead, reasons


def _zero(model: nn.Module, side: LinearSide) -> Mask:
    """Units whose row with its bias, or whose column, is exactly zero."""
    linear: Any = model.get_submodule(side.linear)
    weight: Tensor = linear.weight
    with torch.no_grad():
        if side.axis == "column":
            zero = (weight == 0).all(dim=0)
        else:
            zero = (weight == 0).all(dim=1)
            if linear.bias is not None:
                zero &= linear.bias == 0
    return np.asarray(zero.cpu().numpy(), bool)


def _equal_width(live_hd: Mask, heads: Dims, options: npt.NDArray[np.int64]) -> tuple[Dims, ...]:
    """Per kept head its dims: all live ones, and dead ones up to the width of the widest head, at least one."""
    if not heads:
        return ()
    width = _round_up(max(1, int(live_hd[list(heads)].sum(1).max())), options)
    return tuple(_fill(live_hd[head], width) for head in heads)


def _fill(live: Mask, width: int) -> Dims:
    """All live positions and the first dead ones, `width` in all, ascending."""
    chosen = list(np.flatnonzero(live))
    chosen += list(np.flatnonzero(~live)[: width - len(chosen)])
    return tuple(sorted(int(i) for i in chosen))


def _round_up(width: int, options: npt.NDArray[np.int64]) -> int:
    return int(options[options >= width][0])


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {name: _tuples(item) for name, item in value.items()}
    return value
