"""A linear with LoRA and gates as one node of the backward pass.

    y = diag(w_r) (W0 + s W_B W_A) diag(w_c) x + w_r b

Gates are multiplied into the matrices, which are usually smaller than a batch's activations, and again in the backward
pass; the forward pass saves only x, y and W_A x. These give the gates' gradients too: summed over tokens, `x * dL/dx`
is `w_c * dL/dw_c`, and `y * dL/dy` is `w_r * dL/dw_r`, so that no gradient of W0's size is computed for them.

Shapes: T tokens of all rows, I inputs, O outputs, R rank of LoRA.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from finegates_export.gates.adapter import LoraWeights, is_wrapped, lora_weights
from finegates_export.gates.multiply import Context, gate_gradient


@dataclass(frozen=True)
class LinearWeights:
    """A linear's weight and bias."""

    weight: Tensor
    """Shape (O, I)."""
    bias: Tensor | None
    """Shape (O,)."""
    lora: LoraWeights | None = None


def weights_of(module: nn.Module) -> LinearWeights | None:
    """The weights of a linear or of peft's wrapper around one; None if it does more than apply them."""
    inner: object = module
    lora = None
    if is_wrapped(module):
        lora = lora_weights(module)
        if lora is None:
            return None
        inner = module.base_layer
    # A quantized linear is often a subclass with its own forward.
    if not isinstance(inner, nn.Linear) or type(inner).forward is not nn.Linear.forward:
        return None
    if lora is not None and lora.a.dtype != inner.weight.dtype:
        return None
    return LinearWeights(inner.weight, inner.bias, lora)


def gated_linear(x: Tensor, weights: LinearWeights, column_I: Tensor | None, row_O: Tensor | None) -> Tensor:
    """A linear under its gates, shape (..., O), in autocast's precision if it is on, else in the weight's.

    Args:
        x: shape (..., I).
        weights: the linear's, and LoRA's if it has one.
        column_I: gates of the inputs, products of clamped gates; None leaves the inputs unchanged.
        row_O: gates of the outputs, likewise.
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weights.weight.dtype
    # The node below gives the gates their whole gradient, including that through bias and LoRA.
    column, row = (None if gates is None else gates.detach() for gates in (column_I, row_O))
    bias_O = None if weights.bias is None else _times(weights.bias, row).to(dtype)
    a_RI = b_RO = None
    if weights.lora is not None:
        a_RI = _times(weights.lora.a, column).to(dtype)
        b_RO = _times(weights.lora.scaling * weights.lora.b.T, row).to(dtype)
    x_TI = x.reshape(-1, x.shape[-1])
    y_TO: Tensor = _GatedLinear.apply(x_TI, weights.weight, bias_O, a_RI, b_RO, column_I, row_O, dtype)
    return y_TO.view(*x.shape[:-1], -1)


class _Context(Context):
    dtype: torch.dtype


class _GatedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: _Context,
        x_TI: Tensor,
        weight_OI: Tensor,
        bias_O: Tensor | None,
        a_RI: Tensor | None,
        b_RO: Tensor | None,
        column_I: Tensor | None,
        row_O: Tensor | None,
        dtype: torch.dtype,
    ) -> Tensor:
        cast_TI = x_TI.to(dtype)
        y_TO = linear(cast_TI, _gated(weight_OI, column_I, row_O, dtype), bias_O)
        x_TR = None
        if a_RI is not None and b_RO is not None:
            x_TR = linear(cast_TI, a_RI)
            y_TO.addmm_(x_TR, b_RO)
        ctx.dtype = dtype
        y_kept = y_TO if ctx.needs_input_grad[6] else None
        # x before its cast, shared by the linears that read it.
        ctx.save_for_backward(x_TI, weight_OI, a_RI, b_RO, column_I, row_O, x_TR, y_kept)
        return y_TO

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x_TI, weight_OI, a_RI, b_RO, column_I, row_O, x_TR, y_TO = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, needs_a, needs_b, needs_column, needs_row, _ = ctx.needs_input_grad
        (dy_TO,) = gradients
        cast_TI = x_TI.to(ctx.dtype)
        dx_TI = dweight_OI = da_RI = db_RO = dcolumn_I = None
        if a_RI is not None:
            dy_TR = dy_TO @ b_RO.T
            da_RI = dy_TR.T @ cast_TI if needs_a else None
            db_RO = x_TR.T @ dy_TO if needs_b else None
        if needs_x or needs_column:
            dx_TI = dy_TO @ _gated(weight_OI, column_I, row_O, ctx.dtype)
            if a_RI is not None:
                dx_TI.addmm_(dy_TR, a_RI)
            dcolumn_I = gate_gradient(cast_TI, dx_TI, column_I) if needs_column else None
            dx_TI = dx_TI.to(x_TI.dtype)
        if needs_weight:
            dweight_OI = _gated(dy_TO.T @ cast_TI, column_I, row_O, weight_OI.dtype)
        dbias_O = dy_TO.sum(0) if needs_bias else None
        drow_O = gate_gradient(y_TO, dy_TO, row_O) if needs_row else None
        return dx_TI if needs_x else None, dweight_OI, dbias_O, da_RI, db_RO, dcolumn_I, drow_O, None


def _gated(matrix_OI: Tensor, column_I: Tensor | None, row_O: Tensor | None, dtype: torch.dtype) -> Tensor:
    rows_OI = matrix_OI if row_O is None else matrix_OI * row_O[:, None]
    return _times(rows_OI, column_I).to(dtype)


def _times(x: Tensor, gates: Tensor | None) -> Tensor:
    return x if gates is None else x * gates
