"""Attention under a position bias that all layers share, one per head (MPNet)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from finegates_export.pruning.ragged.attention import Heads, RaggedAttention


class RelativeAttention(RaggedAttention):
    """See `RaggedAttention`; each layer takes its kept heads of the shared bias."""

    kept: Tensor

    def __init__(
        self, heads: Heads, linears: Mapping[str, nn.Module], roles: Mapping[str, str], replaced: nn.Module
    ) -> None:
        super().__init__(heads, linears, roles, replaced)
        self.all_kept = heads.kept == tuple(range(getattr(replaced, "num_attention_heads", -1)))
        self.register_buffer("kept", torch.tensor(heads.kept), persistent=False)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None,
        **_kwargs: object,
    ) -> tuple[Tensor, None]:
        """Attend and project.

        Args:
            hidden_states: x_BSD.
            attention_mask: additive, shape (B, 1, 1, S).
            position_bias: additive, shape (B, all heads, S, S).
        """
        bias = position_bias
        if bias is not None and not self.all_kept:
            bias = bias.index_select(1, self.kept)
        if attention_mask is not None:
            bias = attention_mask if bias is None else bias + attention_mask
        return self.attend(*self.project(hidden_states), bias), None
