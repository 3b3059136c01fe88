"""ModernBERT: pre-norm, fused Wqkv and Wi, rotary embeddings, gated feed-forward, local and global layers.

Warner et al., 2024. Q and K are rotated in pairs of rows, so a Q/K unit is a pair. Rows of Wqkv are blocks of Q, K and
V; rows of Wi are the activated block and the factor that multiplies it.
"""

from __future__ import annotations

from finegates_export.families.family import Family
from finegates_export.families.model_config import ModelConfig
from finegates_export.families.structure import AttentionMap, FeedForwardMap, rows_of


class ModernBert(Family):
    """`ModernBertModel` and its task models."""

    name = "modernbert"
    model_types = ("modernbert",)
    prefix = "model"
    layers = "layers"

    def attention(self, config: ModelConfig, path: str, index: int) -> AttentionMap:
        """Local layers differ by their mask and their rotary table; both come from outside."""
        _ = index
        fused = f"{path}.attn.Wqkv"
        return AttentionMap(
            module=f"{path}.attn",
            query=rows_of(fused, 0, 3),
            key=rows_of(fused, 1, 3),
            value=rows_of(fused, 2, 3),
            output=f"{path}.attn.Wo",
            heads=config.num_attention_heads,
            head_dim=config.hidden_size // config.num_attention_heads,
            kind="rotary",
            dropout=config.attention_dropout,
        )

    def feed_forward(self, config: ModelConfig, path: str) -> FeedForwardMap:
        """See `Family.feed_forward`."""
        return FeedForwardMap(
            module=f"{path}.mlp",
            up=rows_of(f"{path}.mlp.Wi", 0, 2),
            factor=rows_of(f"{path}.mlp.Wi", 1, 2),
            down=f"{path}.mlp.Wo",
            intermediate_size=config.intermediate_size,
            activation=config.hidden_activation,
        )

    def input_names(self, config: ModelConfig) -> tuple[str, ...]:
        """ModernBERT has no segments."""
        _ = config
        return ("input_ids", "attention_mask")
