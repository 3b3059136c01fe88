"""From a plan to a physically smaller torch module: plain slicing, no decisions."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from finegates_export.families.structure import AttentionMap, FeedForwardMap, Structure
from finegates_export.plan import AttentionPlan, FeedForwardPlan, ShrinkPlan
from finegates_export.ragged import ConstantLinear, NoAttention, NoExpansion, RaggedAttention, slice_linear


@torch.no_grad()
def shrink(model: nn.Module, structure: Structure, plan: ShrinkPlan) -> nn.Module:
    """Cut a folded model down to its plan, in place: layer by layer the old weights are let go.

    Args:
        model: the folded model.
        structure: where its linears are.
        plan: made from this model's folded weights.

    Returns:
        The same model with smaller layers.
    """
    for layer, layer_plan in zip(structure.layers, plan.layers, strict=True):
        _shrink_attention(model, layer.attention, layer_plan.attention)
        _shrink_feed_forward(model, layer.feed_forward, layer_plan.feed_forward)
    return model


def _shrink_attention(model: nn.Module, where: AttentionMap, plan: AttentionPlan) -> None:
    output: Any = model.get_submodule(where.output)
    if not plan.heads:
        _replace(model, where.module, NoAttention())
        _replace(model, where.output, ConstantLinear(_bias(output)))
        return
    query, key, value = (_linear(model, path) for path in (where.query, where.key, where.value))
    qk_rows, vo_rows = plan.rows(plan.qk), plan.rows(plan.vo)
    attention = RaggedAttention(
        slice_linear(query, rows=qk_rows),
        slice_linear(key, rows=qk_rows),
        slice_linear(value, rows=vo_rows),
        heads=len(plan.heads),
        scale=where.head_dim**-0.5,
    )
    _replace(model, where.module, attention)
    _replace(model, where.output, slice_linear(output, columns=vo_rows))


def _shrink_feed_forward(model: nn.Module, where: FeedForwardMap, plan: FeedForwardPlan) -> None:
    up, down = _linear(model, where.up), _linear(model, where.down)
    bias = _bias(down)
    if plan.constants:
        bias = bias + _activation_of_zero(where.activation) * down.weight[:, list(plan.constants)].sum(dim=1)
    if not plan.neurons:
        _replace(model, where.up.rpartition(".")[0], NoExpansion())
        _replace(model, where.down, ConstantLinear(bias))
        return
    down.bias = nn.Parameter(bias, requires_grad=False)
    _replace(model, where.up, slice_linear(up, rows=list(plan.neurons)))
    _replace(model, where.down, slice_linear(down, columns=list(plan.neurons)))


def _activation_of_zero(name: str) -> float:
    from transformers.activations import ACT2FN

    return float(ACT2FN[name](torch.zeros(())))


def _linear(model: nn.Module, path: str) -> Any:
    return model.get_submodule(path)


def _bias(linear: Any) -> torch.Tensor:
    bias: torch.Tensor | None = linear.bias
    return torch.zeros(linear.weight.shape[0]) if bias is None else bias.detach()


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
