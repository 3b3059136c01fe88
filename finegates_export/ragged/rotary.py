"""Attention whose queries and keys are rotated by position, pair by pair (ModernBERT).

The rotation happens outside the attention operator, with the *original* cos and sin at the pairs that each head kept:
tables computed anew for the narrower heads would turn by other angles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from finegates_export.ragged.attention import Heads, RaggedAttention


class RotaryAttention(RaggedAttention):
    """See `RaggedAttention`; `heads.qk` lists each head's kept first halves of pairs, then their second halves."""

    dims: Tensor

    def __init__(
        self, heads: Heads, linears: Mapping[str, nn.Module], roles: Mapping[str, str], replaced: nn.Module
    ) -> None:
        super().__init__(heads, linears, roles, replaced)
        self.alike = all(dims == heads.qk[0] for dims in heads.qk)
        self.whole = self.alike and heads.qk[0] == tuple(range(getattr(replaced, "head_dim", -1)))
        dims = heads.qk[0] if self.alike else tuple(dim for head in heads.qk for dim in head)
        self.register_buffer("dims", torch.tensor(dims), persistent=False)

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        **_kwargs: Any,
    ) -> tuple[Tensor, None]:
        """Attend and project.

        Args:
            hidden_states: x_BSD.
            position_embeddings: cos and sin, shape (B or 1, S, original head size) each.
            attention_mask: additive or boolean, broadcastable to (B, h, S, S).
        """
        q_BhSq, k_BhSq, v_BhSv = self.project(hidden_states)
        if position_embeddings is not None:
            cos, sin = (self._table(table) for table in position_embeddings)
            q_BhSq, k_BhSq = (x * cos + _rotate_half(x) * sin for x in (q_BhSq, k_BhSq))
        return self.attend(q_BhSq, k_BhSq, v_BhSv, attention_mask), None

    def _table(self, table: Tensor) -> Tensor:
        """The angles of the kept pairs, broadcastable to (B, h, S, q)."""
        if self.whole:
            return table[:, None]
        kept = table.index_select(-1, self.dims)
        return kept[:, None] if self.alike else self.split(kept)


def _rotate_half(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)
