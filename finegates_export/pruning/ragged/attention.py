"""Self-attention with heads of any number, Q/K width and V width.

transformers derives head count and head size from the config, the same in every layer and for Q, K and V alike.

Shapes: B batch, S sequence, D hidden size, h heads, q Q/K width, v V/O width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from finegates_export.pruning.ragged.linear import NoAttention


@dataclass(frozen=True)
class Heads:
    """The remaining heads of a layer."""

    kept: tuple[int, ...]
    """Old numbers of the kept heads."""
    qk: tuple[tuple[int, ...], ...]
    """Per kept head, its Q/K dims, by their old numbers within the head."""
    vo_width: int
    scale: float
    """Scale of Q K^T: that of the original head size, regardless of what is left."""
    dropout: float
    """Dropout of the attention probabilities, in training."""
    group: int = 1
    """Query heads that share each head of K and V."""

    @property
    def count(self) -> int:
        """Number of kept heads."""
        return len(self.kept)

    @property
    def qk_width(self) -> int:
        """Q/K dims per head."""
        return len(self.qk[0])


class RaggedAttention(nn.Module):
    """Attention over Q, K and V from linears that keep their names, so that a path means the same after shrinking.

    Args:
        heads: the remaining heads.
        linears: the modules by their names in the replaced module; fused ones once.
        roles: the names of `query`, `key`, `value` and, if it lies inside, `output`.
        replaced: the replaced module, for settings of some kinds of attention.
    """

    empty: type[NoAttention] = NoAttention
    """Its replacement if no head is left."""

    def __init__(
        self, heads: Heads, linears: Mapping[str, nn.Module], roles: Mapping[str, str], replaced: nn.Module
    ) -> None:
        super().__init__()
        self.training = replaced.training
        self.heads = heads
        self.roles = dict(roles)
        for name, linear in linears.items():
            self.add_module(name, linear)

    def project(self, x_BSD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, shapes (B, h * group, S, q), (B, h, S, q) and (B, h, S, v)."""
        heads = self.heads
        if self.roles["query"] == self.roles["value"]:
            widths = [heads.count * width for width in (heads.group * heads.qk_width, heads.qk_width, heads.vo_width)]
            q, k, v = self._linear("query")(x_BSD).split(widths, dim=-1)
        else:
            q, k, v = (self._linear(role)(x_BSD) for role in ("query", "key", "value"))
        return self.split(q, heads.group), self.split(k), self.split(v)

    def attend(
        self, q_BhSq: Tensor, k_BhSq: Tensor, v_BhSv: Tensor, mask: Tensor | None, *, causal: bool = False
    ) -> Tensor:
        """Softmax attention with concatenated heads, projected if the projection lies inside.

        Args:
            q_BhSq: queries, a group of heads for each of K and V.
            k_BhSq: keys.
            v_BhSv: values.
            mask: additive or boolean, broadcastable to (B, h, S, S).
            causal: whether a token attends only to those before it; without a mask.
        """
        y_BhSv = nn.functional.scaled_dot_product_attention(
            q_BhSq, k_BhSq, v_BhSv, attn_mask=mask, is_causal=causal, scale=self.heads.scale,
            dropout_p=self.heads.dropout if self.training else 0.0, enable_gqa=self.heads.group > 1,
        )  # fmt: skip
        y_BSE = y_BhSv.transpose(1, 2).flatten(2)
        return self._linear("output")(y_BSE) if "output" in self.roles else y_BSE

    def split(self, x_BSE: Tensor, copies: int = 1) -> Tensor:
        """From concatenated heads, with repeats, to (B, h * copies, S, width)."""
        return x_BSE.unflatten(-1, (self.heads.count * copies, -1)).transpose(1, 2)

    def _linear(self, role: str) -> nn.Module:
        return getattr(self, self.roles[role])


class PlainAttention(RaggedAttention):
    """Softmax attention under a mask: BERT, RoBERTa, ELECTRA, DistilBERT, ViT, DeiT."""

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_kwargs: object
    ) -> tuple[Tensor, None]:
        """Attend, and project if the projection lies inside.

        Args:
            hidden_states: x_BSD.
            attention_mask: additive or boolean, broadcastable to (B, h, S, S).

        Returns:
            Shape (B, S, h*v), or (B, S, D) after the projection; and no attention weights.
        """
        return self.attend(*self.project(hidden_states), attention_mask), None
