"""Linears with rows or columns removed, and replacements for empty sublayers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConstantLinear(nn.Module):
    """A linear without inputs: its bias, for any input.

    Args:
        bias: shape (D,).
    """

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias.clone(), requires_grad=False)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """The bias at every position, shape (B, S, D): fused norms do not broadcast."""
        return self.bias.expand(*hidden_states.shape[:-1], -1)


class NoAttention(nn.Module):
    """Replaces a layer's attention if no head is left.

    Args:
        output: the name of the output projection and its constant; None if the projection lies outside and
            is replaced there.
        replaced: the replaced module.
    """

    def __init__(self, output: tuple[str, nn.Module] | None, replaced: nn.Module) -> None:
        super().__init__()
        _ = replaced
        self._output = output[0] if output else None
        if output:
            self.add_module(*output)

    def forward(self, hidden_states: Tensor, *_args: object, **_kwargs: object) -> tuple[Tensor, None]:
        """The constant, or the input if the constant follows: that reads only the shape."""
        return (getattr(self, self._output)(hidden_states) if self._output else hidden_states), None


class NoFeedForward(nn.Module):
    """Replaces a layer's feed-forward network (or its first half) if no neuron is left.

    Args:
        down: as `output` in `NoAttention`.
    """

    def __init__(self, down: tuple[str, nn.Module] | None = None) -> None:
        super().__init__()
        self._down = down[0] if down else None
        if down:
            self.add_module(*down)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """The constant, or the input if the constant follows."""
        return getattr(self, self._down)(hidden_states) if self._down else hidden_states


def slice_linear(linear: nn.Linear, *, rows: list[int] | None = None, columns: list[int] | None = None) -> nn.Linear:
    """A linear of the chosen rows and columns, None for all; its bias follows the rows."""
    weight = linear.weight.detach()
    bias = linear.bias.detach() if linear.bias is not None else None
    if rows is not None:
        index = torch.tensor(rows, dtype=torch.long)
        weight = weight.index_select(0, index)
        bias = bias.index_select(0, index) if bias is not None else None
    if columns is not None:
        weight = weight.index_select(1, torch.tensor(columns, dtype=torch.long))
    with torch.device("meta"):
        sliced = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    sliced.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    if bias is not None:
        sliced.bias = nn.Parameter(bias.contiguous(), requires_grad=False)
    return sliced
