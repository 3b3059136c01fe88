"""From folded weights to a plan: what is dead, which widths the target prefers, what a gather gains.

"Dead" is judged on the folded float32 weights, so it does not matter what made them zero (docs/exactness.md has the
rules).

Shapes: h heads, d dims (or rotary pairs) of a head, D residual width.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from finegates_export.families.modules import linear_at
from finegates_export.families.structure import AttentionMap, LayerMap, LinearSide, Structure, UnitGroup
from finegates_export.gates.width import OpenDimsNorm
from finegates_export.pruning.plan import AttentionPlan, Dims, FeedForwardPlan, LayerPlan, ShrinkPlan
from finegates_export.pruning.widths import Widths

Mask = npt.NDArray[np.bool_]

SIDE_WORDS = {"row": "rows", "column": "columns"}
ATTENTION_UNITS = {"qk": "Q/K", "vo": "V/O"}


def make_plan(model: nn.Module, structure: Structure, widths: Widths) -> ShrinkPlan:
    """Read the folded weights and decide what to remove.

    Args:
        model: the folded model.
        structure: where its linears are.
        widths: the widths that the target prefers; dead dims are kept to reach them.
    """
    layers = tuple(_plan_layer(model, layer, widths) for layer in structure.layers)
    return ShrinkPlan(structure.hidden_size, layers, structure.linear_weights, _open_width(model))


def _open_width(model: nn.Module) -> Dims | None:
    """The dims that the folded norms use, if a width gate closed any."""
    for module in model.modules():
        if isinstance(module, OpenDimsNorm):
            return tuple(int(dim) for dim in module.open_D.nonzero()[:, 0]) or (0,)
    return None


def _plan_layer(model: nn.Module, layer: LayerMap, widths: Widths) -> LayerPlan:
    qk, vo, ffn = layer.groups()
    return LayerPlan(
        layer.index,
        _plan_attention(model, layer.attention, qk, vo, widths),
        _plan_feed_forward(model, layer, ffn, widths),
    )


def _plan_attention(
    model: nn.Module, where: AttentionMap, qk: UnitGroup, vo: UnitGroup, widths: Widths
) -> AttentionPlan:
    qk_dead, qk_why = _dead(model, qk)
    constant = _constant(model, where.value)
    vo_dead, vo_why = _dead(model, vo, constant)
    qk_live_hd = ~qk_dead.reshape(qk.heads, qk.width)
    vo_live_hd = ~vo_dead.reshape(vo.heads, vo.width)
    heads = tuple(int(head) for head in np.flatnonzero(vo_live_hd.any(1)))
    if qk.tied:  # all heads keep what any kept head needs
        needed = np.logical_or.reduce(qk_live_hd[list(heads)])
        qk_live_hd = np.broadcast_to(needed, qk_live_hd.shape)
        qk_why = [] if needed.all() else [f"{int((~needed).sum())} Q/K pairs: 0 in Q and K of every head that stays"]
    reasons = []
    if len(heads) < vo.heads:
        reasons.append(f"{vo.heads - len(heads)} of {vo.heads} heads: no V/O dim left")
    reasons += [*vo_why, *qk_why, *_lone_query_heads(model, vo, heads)]
    units = _equal_width(qk_live_hd, heads, widths.head_options(where.head_dim, qk.rows_per_unit))
    vo_dims = _equal_width(vo_live_hd, heads, widths.head_options(where.head_dim))
    kept = sum(map(len, units)) * qk.rows_per_unit + sum(map(len, vo_dims))
    live = int(qk_live_hd[list(heads)].sum()) * qk.rows_per_unit + int(vo_live_hd[list(heads)].sum())
    stays = {head * vo.width + dim for head, dims in zip(heads, vo_dims, strict=True) for dim in dims}
    speaking = constant & ~_zero(model, where.value)
    constants = tuple(int(row) for row in np.flatnonzero(speaking) if int(row) not in stays)
    qk_dims = tuple(tuple(dim + half * qk.width for half in range(qk.rows_per_unit) for dim in dims) for dims in units)
    return AttentionPlan(
        qk.heads, where.head_dim, heads, qk_dims, vo_dims, constants, kept - live, "; ".join(reasons), where.group
    )  # fmt: skip


def _lone_query_heads(model: nn.Module, vo: UnitGroup, heads: Dims) -> list[str]:
    """Why query heads without readers stay: groups of query heads must stay equal."""
    output = vo.sides[-1]
    silent_hc = np.logical_and.reduce(_zero(model, output).reshape(vo.axes(output)), (2, 3))
    count = int(silent_hc[list(heads)].sum())
    if not count:
        return []
    return [f"{count} query heads stay though O's columns are 0: other query heads need their KV heads"]


def _plan_feed_forward(model: nn.Module, layer: LayerMap, ffn: UnitGroup, widths: Widths) -> FeedForwardPlan:
    where = layer.feed_forward
    up, down = ffn.sides[0], ffn.sides[-1]
    unread = _zero(model, down)
    if where.factor is None:
        silent = _constant(model, up) | _zero(model, up)
        silent_why = "up's row is 0"
        constants_of = silent & ~unread
    else:
        silent = _zero(model, where.factor)
        silent_why = "the factor's row is 0"
        if activation_at(where.activation, torch.zeros(1)).item() == 0.0:
            silent |= _zero(model, up)
            silent_why = "up's or the factor's row is 0"
        constants_of = np.zeros_like(silent)
    live = ~(silent | unread)
    neurons = _fill(live, _round_up(int(live.sum()), widths.ffn_options(ffn.width)))
    stays = set(neurons)
    constants = tuple(int(i) for i in np.flatnonzero(constants_of) if int(i) not in stays)
    reasons = []
    if unread.any():
        reasons.append(f"{int(unread.sum())} FFN neurons: down's column is 0")
    if (silent & ~unread).any():
        reasons.append(f"{int((silent & ~unread).sum())} FFN neurons: {silent_why}")
    padding = len(neurons) - int(live.sum())
    return FeedForwardPlan(ffn.width, neurons, constants, padding, "; ".join(reasons), len(ffn.sides))


def activation_at(name: str, inputs: Tensor) -> Tensor:
    """An activation by its name in transformers."""
    from transformers.activations import ACT2FN

    outputs: Tensor = ACT2FN[name](inputs)
    return outputs


def rows_of_side(model: nn.Module, side: LinearSide) -> tuple[Tensor, Tensor | None]:
    """The rows of a side (only its block) and their biases."""
    linear = linear_at(model, side.linear)
    size = linear.weight.shape[0] // side.blocks
    chosen = slice(side.block * size, (side.block + 1) * size)
    return linear.weight[chosen], None if linear.bias is None else linear.bias[chosen]


def _dead(model: nn.Module, group: UnitGroup, constant: Mask | None = None) -> tuple[Mask, list[str]]:
    """The dead units of an attention group, and how many were first found on which side."""
    found: list[tuple[LinearSide, Mask]] = []
    for side in group.sides:
        zero = _zero(model, side)
        if constant is not None and side.axis == "row":
            zero |= constant
        found.append((side, zero.reshape(group.axes(side)).all((1, 2)).reshape(-1)))
    name = ATTENTION_UNITS[group.kind]
    if group.needs_all:
        dead = np.logical_and.reduce([zero for _, zero in found])
        return dead, [f"{int(dead.sum())} {name} dims: 0 on all sides"] if dead.any() else []
    dead = np.zeros(group.size, bool)
    reasons = []
    for side, zero in found:
        fresh = int((zero & ~dead).sum())
        if fresh:
            unit = "pairs" if group.rows_per_unit > 1 else "dims"
            reasons.append(f"{fresh} {name} {unit}: {_role(side, group)}'s {SIDE_WORDS[side.axis]} are 0")
        dead |= zero
    return dead, reasons


def _role(side: LinearSide, group: UnitGroup) -> str:
    names = ("Q", "K") if group.kind == "qk" else ("V", "O")
    return names[group.sides.index(side)]


def _zero(model: nn.Module, side: LinearSide) -> Mask:
    """Rows (with their biases) or columns that are exactly zero."""
    with torch.no_grad():
        if side.axis == "column":
            linear = linear_at(model, side.linear)
            zero = (linear.weight == 0).all(dim=0)
        else:
            weight, bias = rows_of_side(model, side)
            zero = (weight == 0).all(dim=1)
            if bias is not None:
                zero = zero & (bias == 0)
    return np.asarray(zero.cpu().numpy(), bool)


def _constant(model: nn.Module, side: LinearSide) -> Mask:
    """Rows without weights: they output their bias for any input."""
    with torch.no_grad():
        zero = (rows_of_side(model, side)[0] == 0).all(dim=1)
    return np.asarray(zero.cpu().numpy(), bool)


def _equal_width(live_hd: Mask, heads: Dims, options: npt.NDArray[np.int64]) -> tuple[Dims, ...]:
    """Per kept head, its dims: all live ones, and dead ones up to the width of the widest head, at least one."""
    if not heads:
        return ()
    width = _round_up(max(1, int(live_hd[list(heads)].sum(1).max())), options)
    return tuple(_fill(live_hd[head], width) for head in heads)


def _fill(live: Mask, width: int) -> Dims:
    """All live positions and the first dead ones, `width` in total, ascending."""
    chosen = list(np.flatnonzero(live))
    chosen += list(np.flatnonzero(~live)[: width - len(chosen)])
    return tuple(sorted(int(i) for i in chosen))


def _round_up(width: int, options: npt.NDArray[np.int64]) -> int:
    return int(options[options >= width][0])
