"""Removes closed dims of the residual width from a whole model: slicing that no single layer owns."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from finegates_export.families.modules import linear_at, norm_at
from finegates_export.families.residual import ResidualMap, residual_map
from finegates_export.families.structure import Structure
from finegates_export.gates.width import OpenDimsNorm
from finegates_export.pruning.plan import Dims
from finegates_export.pruning.ragged.linear import slice_linear


@torch.no_grad()
def narrow(model: nn.Module, structure: Structure, dims: Dims) -> None:
    """Keep only the chosen dims of the residual stream everywhere, in place; norms become ordinary ones again.

    Args:
        model: a folded model, before its layers are cut.
        structure: where its linears are.
        dims: the kept dims, by old numbers.
    """
    index = torch.tensor(dims)
    for path, module in [*model.named_modules()]:
        if isinstance(module, OpenDimsNorm):
            _replace(model, path, module.norm)
    where = residual_map(model, structure)
    _narrow_norms_and_tables(model, where, index)
    for path in where.writers:
        _keep_rows(linear_at(model, path), index)
    for path in where.convolutions:
        _keep_rows(cast(nn.Conv2d, model.get_submodule(path)), index)
    positions = (path for layer in structure.layers for path in layer.attention.position_linears)
    for path in (*where.readers, *positions):
        _keep_columns(model, path, dims)
    for group in structure.groups():
        for side in group.sides:
            linear = linear_at(model, side.linear)
            if side.axis == "column":
                _keep_rows(linear, index)
            elif linear.weight.shape[1] != len(dims):  # a fused linear appears once per block
                _keep_columns(model, side.linear, dims)


def _narrow_norms_and_tables(model: nn.Module, where: ResidualMap, index: Tensor) -> None:
    for path in where.norms:
        norm = norm_at(model, path)
        norm.normalized_shape = (len(index),)
        norm.weight = _parameter(norm.weight[index])
        norm.bias = None if norm.bias is None else _parameter(norm.bias[index])
    for path in where.tables:
        parent, _, name = path.rpartition(".")
        owner = model.get_submodule(parent)
        setattr(owner, name, _parameter(getattr(owner, name).index_select(-1, index)))
        if isinstance(owner, nn.Embedding):
            owner.embedding_dim = len(index)


def _keep_rows(module: nn.Linear | nn.Conv2d, index: Tensor) -> None:
    """Cut a linear's or a convolution's outputs."""
    module.weight = _parameter(module.weight[index])
    module.bias = None if module.bias is None else _parameter(module.bias[index])
    setattr(module, "out_features" if isinstance(module, nn.Linear) else "out_channels", len(index))


def _keep_columns(model: nn.Module, path: str, dims: Dims) -> None:
    _replace(model, path, slice_linear(linear_at(model, path), columns=list(dims)))


def _parameter(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().contiguous(), requires_grad=False)


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
