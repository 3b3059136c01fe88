"""Llama and the decoders that share its modules: pre-norm RMSNorm, rotary embeddings, grouped queries, gated network.

Touvron et al., 2023. Q and K are rotated in pairs of rows, so a Q/K unit is a pair. `gate_proj` is activated and
`up_proj` multiplies it. Sliding windows come from outside, with the mask.
"""

from __future__ import annotations

import dataclasses

from finegates_export.families.decoder import Decoder
from finegates_export.families.model_config import ModelConfig
from finegates_export.families.structure import AttentionMap, FeedForwardMap, rows_of


class Llama(Decoder):
    """`LlamaModel` and its task models."""

    name: str = "llama"
    model_types: tuple[str, ...] = ("llama",)

    def attention(self, config: ModelConfig, path: str, index: int) -> AttentionMap:
        """See `Family.attention`."""
        _ = index
        module = f"{path}.self_attn"
        return AttentionMap(
            module=module,
            query=rows_of(f"{module}.q_proj"),
            key=rows_of(f"{module}.k_proj"),
            value=rows_of(f"{module}.v_proj"),
            output=f"{module}.o_proj",
            heads=config.num_key_value_heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            group=config.num_attention_heads // config.num_key_value_heads,
            kind="causal-rotary",
            dropout=config.attention_dropout,
        )

    def feed_forward(self, config: ModelConfig, path: str) -> FeedForwardMap:
        """See `Family.feed_forward`."""
        return FeedForwardMap(
            module=f"{path}.mlp",
            up=rows_of(f"{path}.mlp.gate_proj"),
            factor=rows_of(f"{path}.mlp.up_proj"),
            down=f"{path}.mlp.down_proj",
            intermediate_size=config.intermediate_size,
            activation=config.hidden_act,
        )


class Mistral(Llama):
    """`MistralModel`: Llama with a sliding window (Jiang et al., 2023)."""

    name = "mistral"
    model_types = ("mistral",)


class Qwen2(Llama):
    """`Qwen2Model`: Llama with biases on Q, K and V, and windows on some layers (Yang et al., 2024)."""

    name = "qwen2"
    model_types = ("qwen2",)


class Qwen3(Llama):
    """`Qwen3Model`: Llama with a norm over each head's dims after Q and K (Yang et al., 2025)."""

    name = "qwen3"
    model_types = ("qwen3",)

    def attention(self, config: ModelConfig, path: str, index: int) -> AttentionMap:
        """All heads of a layer share its two norms."""
        norms = (f"{path}.self_attn.q_norm", f"{path}.self_attn.k_norm")
        return dataclasses.replace(super().attention(config, path, index), norms=norms)


class Gemma(Llama):
    """`GemmaModel`: Llama with scaled embeddings and heads with their own width (Mesnard et al., 2024)."""

    name = "gemma"
    model_types = ("gemma",)
