"""Modules that a shrunk model needs and transformers has not: heads of any number and width, layer by layer.

transformers derives head count and head size from the config, the same in every layer and for Q, K and V alike.

Shapes: B batch, S sequence, D hidden size, h heads, q Q/K width, v V/O width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class RaggedAttention(nn.Module):
    """Self-attention of `heads` heads with `qk_width` Q/K dims and `vo_width` V/O dims each.

    Args:
        query: linear to h*q features, head-major.
        key: the same for keys.
        value: linear to h*v features.
        heads: h.
        scale: what Q K^T is multiplied by: that of the original head size, whatever is left of it.
    """

    def __init__(self, query: nn.Linear, key: nn.Linear, value: nn.Linear, heads: int, scale: float) -> None:
        super().__init__()
        self.query, self.key, self.value = query, key, value
        self.heads = heads
        self.scale = scale

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_kwargs: Any
    ) -> tuple[Tensor, None]:
        """Attend; the output projection follows outside, as in transformers.

        Args:
            hidden_states: x_BSD.
            attention_mask: additive or boolean, broadcastable to (B, h, S, S).

        Returns:
            The heads' outputs side by side, shape (B, S, h*v), and no attention weights.
        """
        q_BhSq, k_BhSq, v_BhSv = (self._split(linear(hidden_states)) for linear in (self.query, self.key, self.value))
        y_BhSv = nn.functional.scaled_dot_product_attention(
            q_BhSq, k_BhSq, v_BhSv, attn_mask=attention_mask, scale=self.scale
        )
        return y_BhSv.transpose(1, 2).flatten(2), None

    def _split(self, x_BSD: Tensor) -> Tensor:
        return x_BSD.unflatten(2, (self.heads, -1)).transpose(1, 2)


class NoAttention(nn.Module):
    """Stands where a layer's attention was when no head is left; `ConstantLinear` behind it reads the shape alone."""

    def forward(self, hidden_states: Tensor, **_kwargs: Any) -> tuple[Tensor, None]:
        """Hand the input on."""
        return hidden_states, None


class NoExpansion(nn.Module):
    """Stands where a feed-forward network's first linear was when no neuron is left."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Hand the input on."""
        return hidden_states


class ConstantLinear(nn.Module):
    """A linear with no inputs left: its bias, whatever comes in.

    Args:
        bias: shape (D,).
    """

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias.clone(), requires_grad=False)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """The bias at every position, shape (B, S, D): fused norms do not broadcast."""
        return self.bias.expand_as(hidden_states)


def slice_linear(linear: nn.Linear, *, rows: list[int] | None = None, columns: list[int] | None = None) -> nn.Linear:
    """A linear of the chosen rows and columns, all where None; its bias follows the rows."""
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
