"""Attention whose queries and keys are rotated by position, pair by pair (ModernBERT; decoders by `causal`).

The rotation happens outside the attention operator, with the *original* cos and sin of each head's kept pairs: tables
for narrower heads would rotate by other angles.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from finegates_export.pruning.ragged.attention import Heads, RaggedAttention


class Rotation(nn.Module):
    """The remaining rotary pairs.

    Args:
        heads: `heads.qk` lists each head's kept first halves of pairs, then their second halves.
        head_dim: original dims per head.
    """

    dims: Tensor

    def __init__(self, heads: Heads, head_dim: int) -> None:
        super().__init__()
        self.count = heads.count
        self.alike = all(dims == heads.qk[0] for dims in heads.qk)
        self.whole = self.alike and heads.qk[0] == tuple(range(head_dim))
        dims = heads.qk[0] if self.alike else tuple(dim for head in heads.qk for dim in head)
        self.register_buffer("dims", torch.tensor(dims), persistent=False)

    def forward(self, x_BhSq: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        """Rotate queries or keys.

        Args:
            x_BhSq: one head per kept head, or a group of query heads per kept head.
            tables: cos and sin, shape (B or 1, S, original head size) each.
        """
        cos, sin = (self._table(table, x_BhSq.shape[1] // self.count) for table in tables)
        return rotate(x_BhSq, cos, sin)

    def _table(self, table: Tensor, group: int) -> Tensor:
        """The angles of the kept pairs, broadcastable to (B, h, S, q)."""
        if self.whole:
            return table[:, None]
        kept = table.index_select(-1, self.dims)
        if self.alike:
            return kept[:, None]
        each = kept.unflatten(-1, (self.count, -1)).transpose(1, 2)
        return for_queries(each, group)


class RotaryAttention(RaggedAttention):
    """See `RaggedAttention`; `heads.qk` lists each head's kept first halves of pairs, then their second halves."""

    def __init__(
        self, heads: Heads, linears: Mapping[str, nn.Module], roles: Mapping[str, str], replaced: nn.Module
    ) -> None:
        super().__init__(heads, linears, roles, replaced)
        self.rotation = Rotation(heads, getattr(replaced, "head_dim", -1))

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        **_kwargs: object,
    ) -> tuple[Tensor, None]:
        """Attend and project.

        Args:
            hidden_states: x_BSD.
            position_embeddings: cos and sin, shape (B or 1, S, original head size) each.
            attention_mask: additive or boolean, broadcastable to (B, h, S, S).
        """
        q_BhSq, k_BhSq, v_BhSv = self.project(hidden_states)
        if position_embeddings is not None:
            q_BhSq, k_BhSq = (self.rotation(x, position_embeddings) for x in (q_BhSq, k_BhSq))
        return self.attend(q_BhSq, k_BhSq, v_BhSv, attention_mask), None


def for_queries(x_BhSE: Tensor, group: int) -> Tensor:
    """Each head repeated for every query head that shares it, shape (B, h * group, S, E)."""
    if group == 1:
        return x_BhSE
    return x_BhSE.unsqueeze(2).expand(-1, -1, group, -1, -1).flatten(1, 2)


def rotate(x_BhSq: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first half of each head's dims with the second; tables broadcastable to (B, h, S, q)."""
    return x_BhSq * cos + _rotate_half(x_BhSq) * sin


def _rotate_half(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)
