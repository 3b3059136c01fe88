"""From a plan to a physically smaller torch module: plain slicing, no decisions."""

from __future__ import annotations

import torch
from torch import nn

from finegates_export.families.modules import linear_at
from finegates_export.families.structure import AttentionMap, FeedForwardMap, LinearSide, Structure
from finegates_export.pruning.plan import AttentionPlan, FeedForwardPlan, ShrinkPlan
from finegates_export.pruning.planner import activation_at, rows_of_side
from finegates_export.pruning.ragged import ATTENTION, Heads
from finegates_export.pruning.ragged.linear import ConstantLinear, NoFeedForward, slice_linear
from finegates_export.pruning.ragged.norm import slice_norm
from finegates_export.pruning.shrink_width import narrow


@torch.no_grad()
def shrink(model: nn.Module, structure: Structure, plan: ShrinkPlan) -> nn.Module:
    """Cut a folded model down to its plan, in place; old weights are freed layer by layer.

    Args:
        model: the folded model.
        structure: where its linears are.
        plan: made from this model's folded weights.

    Returns:
        The same model with smaller layers.
    """
    if plan.width is not None:
        narrow(model, structure, plan.width)
    for layer, layer_plan in zip(structure.layers, plan.layers, strict=True):
        _shrink_attention(model, layer.attention, layer_plan.attention)
        _shrink_feed_forward(model, layer.feed_forward, layer_plan.feed_forward)
    return model


def _shrink_attention(model: nn.Module, where: AttentionMap, plan: AttentionPlan) -> None:
    output = linear_at(model, where.output)
    bias = _bias(output)
    value_bias = rows_of_side(model, where.value)[1]
    if plan.constants and value_bias is not None:
        for columns in plan.columns(plan.constants):
            bias = bias + output.weight[:, columns] @ value_bias[list(plan.constants)]
    name = _local(where.output, where.module)
    replaced = model.get_submodule(where.module)
    if not plan.heads:
        constant = ConstantLinear(bias)
        empty = ATTENTION[where.kind].empty((name, constant) if where.output_inside else None, replaced)
        _replace(model, where.module, empty)
        if not where.output_inside:
            _replace(model, where.output, constant)
        return
    if plan.constants or output.bias is not None:
        output.bias = nn.Parameter(bias, requires_grad=False)
    qk_rows, vo_rows = plan.rows(plan.qk), plan.rows(plan.vo)
    query_rows = plan.rows(plan.qk, where.group)
    linears: dict[str, nn.Module] = {
        **_sliced(model, {where.query: query_rows, where.key: qk_rows, where.value: vo_rows})
    }
    for path in where.position_linears:
        linears[path] = slice_linear(linear_at(model, path), rows=qk_rows)
    roles = {"query": where.query.linear, "key": where.key.linear, "value": where.value.linear}
    for role, path in zip(("query_norm", "key_norm"), where.norms, strict=False):
        roles[role] = path
        linears[path] = slice_norm(model.get_submodule(path), plan.qk[0])
    smaller = slice_linear(output, columns=plan.rows(plan.vo, where.group))
    if where.output_inside:
        roles["output"] = where.output
        linears[where.output] = smaller
    else:
        _replace(model, where.output, smaller)
    heads = Heads(plan.heads, plan.qk, plan.vo_width, where.softmax_scale, where.dropout, where.group)
    attention = ATTENTION[where.kind](
        heads,
        {_local(path, where.module): linear for path, linear in linears.items()},
        {role: _local(path, where.module) for role, path in roles.items()},
        replaced,
    )
    _replace(model, where.module, attention)


def _shrink_feed_forward(model: nn.Module, where: FeedForwardMap, plan: FeedForwardPlan) -> None:
    down = linear_at(model, where.down)
    bias = _bias(down)
    if plan.constants:
        up_weight, up_bias = rows_of_side(model, where.up)
        silent = up_bias if up_bias is not None else up_weight.new_zeros(len(up_weight))
        columns = list(plan.constants)
        bias = bias + down.weight[:, columns] @ activation_at(where.activation, silent[columns])
    if not plan.neurons:
        constant = ConstantLinear(bias)
        name = _local(where.down, where.module)
        _replace(model, where.module, NoFeedForward((name, constant) if where.down_inside else None))
        if not where.down_inside:
            _replace(model, where.down, constant)
        return
    if plan.constants or down.bias is not None:
        down.bias = nn.Parameter(bias, requires_grad=False)
    neurons = list(plan.neurons)
    sides = [where.up, *([where.factor] if where.factor else [])]
    for path, linear in _sliced(model, dict.fromkeys(sides, neurons)).items():
        _replace(model, path, linear)
    _replace(model, where.down, slice_linear(down, columns=neurons))


def _sliced(model: nn.Module, rows: dict[LinearSide, list[int]]) -> dict[str, nn.Linear]:
    """Linears cut to the chosen rows of their blocks, by path; a fused linear keeps the order of its blocks."""
    chosen: dict[str, list[int]] = {}
    for side, kept in rows.items():
        start = side.block * (linear_at(model, side.linear).weight.shape[0] // side.blocks)
        chosen.setdefault(side.linear, []).extend(start + row for row in kept)
    return {path: slice_linear(linear_at(model, path), rows=kept) for path, kept in chosen.items()}


def _bias(linear: nn.Linear) -> torch.Tensor:
    bias: torch.Tensor | None = linear.bias
    return linear.weight.new_zeros(linear.weight.shape[0]) if bias is None else bias.detach()


def _local(path: str, module: str) -> str:
    return path.removeprefix(f"{module}.")


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    owner, _, name = path.rpartition(".")
    setattr(model.get_submodule(owner), name, module)
