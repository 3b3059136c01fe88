"""A tensor times its gates, with the backward pass that saves the least.

The gradient of a product needs both factors. Saving the ungated tensor would keep a copy of nearly every activation
that nothing else reads. The output is read, and mostly saved, by the next operation; divided by the gate it is the
input. Where a gate is 0 the input is unknown, but not needed: the clamp that closed the gate passes no gradient.

Shapes: D gates; any number of leading axes.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def multiply(x: Tensor, gates_D: Tensor) -> Tensor:
    """`x * gates_D` in the precision of `x`.

    Args:
        x: shape (..., D).
        gates_D: not negative; products of clamped gates.
    """
    y: Tensor = _Product.apply(x, gates_D)
    return y


class Context(Protocol):
    """What torch gives both passes of a `Function`."""

    needs_input_grad: tuple[bool, ...]
    """By argument of the forward pass."""
    saved_tensors: tuple[Tensor, ...]
    """Those of `save_for_backward`; None where None was saved, which torch's own types omit too."""

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for the backward pass."""


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, x: Tensor, gates_D: Tensor) -> Tensor:
        y = x * gates_D.to(x.dtype)
        ctx.save_for_backward(gates_D, y if ctx.needs_input_grad[1] else None)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (gradient,) = gradients
        gates_D, y = ctx.saved_tensors
        if y is None:
            return gradient * gates_D.to(gradient.dtype), None
        gates_gradient_D = gate_gradient(y, gradient, gates_D)
        return gradient * gates_D.to(gradient.dtype) if ctx.needs_input_grad[0] else None, gates_gradient_D


def gate_gradient(y: Tensor, gradient: Tensor, gates_D: Tensor) -> Tensor:
    """The gradient of gates, shape (D,), from a tensor that they were multiplied into and its gradient, (..., D)."""
    # The sum itself runs in float32; asking for it as the result takes twice as long.
    total_D = (y * gradient).flatten(end_dim=-2).sum(0).to(gates_D.dtype)
    return torch.where(gates_D > 0, total_D / gates_D, 0.0)
