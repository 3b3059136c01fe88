"""DeBERTa's attention: content, content-to-position and position-to-content scores in one softmax.

The position terms are summed into one additive bias, which leaves ordinary attention with a bias.

Shapes: as in `attention`; P relative positions in the embedding table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from finegates_export.pruning.ragged.attention import Heads, RaggedAttention


class DebertaAttention(Protocol):
    """What is read of DeBERTa's attention in transformers."""

    relative_attention: bool
    pos_att_type: list[str]
    pos_ebd_size: int
    share_att_key: bool


class DisentangledAttention(RaggedAttention):
    """See `RaggedAttention`; `linears` also holds the position terms' own linears, if any."""

    def __init__(
        self, heads: Heads, linears: Mapping[str, nn.Module], roles: Mapping[str, str], replaced: nn.Module
    ) -> None:
        super().__init__(heads, linears, roles, replaced)
        source = cast(DebertaAttention, replaced)
        self.terms = tuple(source.pos_att_type) if source.relative_attention else ()
        self.span = source.pos_ebd_size if self.terms else 0
        self.shared = bool(source.share_att_key)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Tensor | None = None,
        rel_embeddings: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """Attend; the projection follows outside.

        Args:
            hidden_states: x_BSD.
            attention_mask: 1 where a token may attend to another, shape (B, 1, S, S).
            output_attentions: not supported, as in fused attention.
            query_states: not supported; transformers passes it only in its mask decoder.
            relative_pos: bucketed relative positions, shape (1, S, S).
            rel_embeddings: shape (P or more, D).
        """
        _ = output_attentions, query_states
        q_BhSq, k_BhSq, v_BhSv = self.project(hidden_states)
        lowest = torch.finfo(q_BhSq.dtype).min
        bias = (1.0 - attention_mask.to(q_BhSq.dtype)) * lowest
        if self.terms and relative_pos is not None and rel_embeddings is not None:
            bias = bias + self._position_terms(q_BhSq, k_BhSq, relative_pos, rel_embeddings)
        return self.attend(q_BhSq, k_BhSq, v_BhSv, bias), None

    def _position_terms(self, q_BhSq: Tensor, k_BhSq: Tensor, relative_pos: Tensor, table_PD: Tensor) -> Tensor:
        table_1PD = table_PD[: 2 * self.span].unsqueeze(0)
        positions_11SS = relative_pos.view(1, 1, *relative_pos.shape[-2:]).long()
        shape = (*q_BhSq.shape[:3], q_BhSq.shape[2])
        total: Tensor | None = None
        if "c2p" in self.terms:
            key_1hPq = self.split(self._position_linear("key")(table_1PD))
            index = (positions_11SS + self.span).clamp(0, 2 * self.span - 1).expand(shape)
            total = (q_BhSq @ key_1hPq.mT).gather(-1, index)
        if "p2c" in self.terms:
            query_1hPq = self.split(self._position_linear("query")(table_1PD))
            index = (self.span - positions_11SS).clamp(0, 2 * self.span - 1).expand(shape)
            term = (k_BhSq @ query_1hPq.mT).gather(-1, index).mT
            total = term if total is None else total + term
        if total is None:
            return torch.zeros((), dtype=q_BhSq.dtype)
        return total * self.heads.scale

    def _position_linear(self, role: str) -> nn.Module:
        return self._linear(role) if self.shared else getattr(self, f"pos_{role}_proj")
