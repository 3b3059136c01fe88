"""Attention of decoders: each token attends to those before it, whose keys and values may be cached.

It calls the cache as transformers' own modules do, and `DynamicCache` takes any number of heads and different Q/K and V
widths per layer. Padding and sliding windows are part of the mask.

Shapes: as in `attention`; T attended tokens, cached ones and the S new ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, cast

from torch import Tensor, nn

from finegates_export.pruning.ragged.attention import Heads, RaggedAttention
from finegates_export.pruning.ragged.linear import NoAttention
from finegates_export.pruning.ragged.rotary import Rotation

if TYPE_CHECKING:
    from transformers import Cache


class DecoderAttention(Protocol):
    """What is read of a decoder's attention in transformers."""

    layer_idx: int
    head_dim: int


class NoCausalAttention(NoAttention):
    """See `NoAttention`; the cache still counts the tokens, as transformers reads its length off the first layer."""

    def __init__(self, output: tuple[str, nn.Module] | None, replaced: nn.Module) -> None:
        super().__init__(output, replaced)
        self.layer_idx = cast(DecoderAttention, replaced).layer_idx

    def forward(
        self, hidden_states: Tensor, *args: object, cache: Cache | None = None, past_key_values: Cache | None = None,
        **kwargs: object,
    ) -> tuple[Tensor, None]:  # fmt: skip
        """The constant; a cache gets one zero per token."""
        cache = cache if cache is not None else past_key_values
        if cache is not None:
            counted_B1S1 = hidden_states.new_zeros((hidden_states.shape[0], 1, hidden_states.shape[1], 1))
            cache.update(counted_B1S1, counted_B1S1, self.layer_idx)
        return super().forward(hidden_states, *args, **kwargs)


class CausalAttention(RaggedAttention):
    """See `RaggedAttention`: Llama, Mistral, Qwen, Gemma, GPT-2; heads are those of K and V."""

    empty = NoCausalAttention

    def __init__(
        self, heads: Heads, linears: Mapping[str, nn.Module], roles: Mapping[str, str], replaced: nn.Module
    ) -> None:
        super().__init__(heads, linears, roles, replaced)
        source = cast(DecoderAttention, replaced)
        self.layer_idx = source.layer_idx
        self.rotation = Rotation(heads, source.head_dim)

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        cache: Cache | None = None,
        past_key_values: Cache | None = None,
        **_kwargs: object,
    ) -> tuple[Tensor, None]:
        """Attend and project.

        Args:
            hidden_states: x_BSD.
            position_embeddings: cos and sin, shape (B or 1, S, original head size) each; None if Q and K are not
                rotated.
            attention_mask: additive or boolean, broadcastable to (B, h, S, T); None if only the order of tokens
                decides, as in transformers without padding.
            cache: a `Cache` of transformers, which takes the new keys and values and returns all of them.
            past_key_values: the same; its name before transformers 5.24.
        """
        q_BhSq, k_BhSq, v_BhSv = self.project(hidden_states)
        if "query_norm" in self.roles:
            q_BhSq, k_BhSq = self._linear("query_norm")(q_BhSq), self._linear("key_norm")(k_BhSq)
        if position_embeddings is not None:
            q_BhSq, k_BhSq = (self.rotation(x, position_embeddings) for x in (q_BhSq, k_BhSq))
        cache = cache if cache is not None else past_key_values
        if cache is not None:
            k_BhSq, v_BhSv = cache.update(k_BhSq, v_BhSv, self.layer_idx)
        # A single token attends to everything; several without a mask have no past.
        causal = attention_mask is None and q_BhSq.shape[2] > 1
        return self.attend(q_BhSq, k_BhSq, v_BhSv, attention_mask, causal=causal), None
