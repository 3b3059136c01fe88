"""Gates and LoRA into dense float32 weights.

    W = diag(w_r) (W0 + s W_B W_A) diag(w_c)        b = w_r * b

LoRA is merged first, by peft's own `merge` (right for rsLoRA, rank patterns, LoRA biases and DoRA too), then gated.
Evaluation gates may be fractional: they are folded without rounding.
"""

from __future__ import annotations

import torch
from torch import nn

from finegates_export.errors import InputError
from finegates_export.families.modules import linear_at, norm_at
from finegates_export.gates.gated_model import GatedModel
from finegates_export.gates.width import OpenDimsNorm


@torch.no_grad()
def fold(gated: GatedModel) -> nn.Module:
    """Fold a gated model into a plain one, in place; the gated model is consumed.

    Returns:
        The transformers model; its linears are plain again and hold the folded weights.

    Raises:
        InputError: a folded weight is not finite.
    """
    gates_N = gated.gates.values()
    scales, width_R = gated.gates.scales(gates_N), gated.gates.width(gates_N)
    model = gated.detach_gates()
    merge = getattr(model, "merge_and_unload", None)
    if callable(merge):
        try:
            model = merge(safe_merge=True)
        except ValueError as error:
            raise InputError(f"the adapter cannot be merged: {error}") from error
    for side, scale in scales.items():
        linear = linear_at(model, side.linear)
        if side.axis == "row":
            _multiply(linear.weight, scale[:, None])
            if linear.bias is not None:
                _multiply(linear.bias, scale)
        else:
            _multiply(linear.weight, scale[None, :])
        if not bool(torch.isfinite(linear.weight).all()):
            raise InputError(f"folded weight {side.linear} holds NaN or infinite values; the run cannot be exported")
    if width_R is not None:
        for path in gated.gates.layout.norms:
            _fold_norm(model, path, width_R)
    return model.requires_grad_(False).eval()


def _fold_norm(model: nn.Module, path: str, width_R: torch.Tensor) -> None:
    """Fold the width gate into a norm's affine parameters; a norm with closed dims uses only the open ones."""
    norm = norm_at(model, path)
    _multiply(norm.weight, width_R)
    if norm.bias is not None:
        _multiply(norm.bias, width_R)
    open_D = width_R > 0
    if not bool(open_D.all()):
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, OpenDimsNorm(norm, open_D))


def _multiply(parameter: torch.Tensor, scale: torch.Tensor) -> None:
    """Into new memory: the old may belong to a base shared with other runs (sources/shared_base.py)."""
    parameter.data = parameter * scale
