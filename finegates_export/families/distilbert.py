"""DistilBERT: post-norm layers with their own names, no segments, no pooler (Sanh et al., 2019)."""

from __future__ import annotations

from finegates_export.families.family import Family
from finegates_export.families.model_config import ModelConfig
from finegates_export.families.structure import AttentionMap, FeedForwardMap, rows_of


class DistilBert(Family):
    """`DistilBertModel` and its task models."""

    name = "distilbert"
    model_types = ("distilbert",)
    prefix = "distilbert"
    layers = "transformer.layer"

    def attention(self, config: ModelConfig, path: str, index: int) -> AttentionMap:
        """See `Family.attention`."""
        _ = index
        module = f"{path}.attention"
        return AttentionMap(
            module=module,
            query=rows_of(f"{module}.q_lin"),
            key=rows_of(f"{module}.k_lin"),
            value=rows_of(f"{module}.v_lin"),
            output=f"{module}.out_lin",
            heads=config.n_heads,
            head_dim=config.dim // config.n_heads,
            dropout=config.attention_dropout,
        )

    def feed_forward(self, config: ModelConfig, path: str) -> FeedForwardMap:
        """See `Family.feed_forward`."""
        return FeedForwardMap(
            module=f"{path}.ffn",
            up=rows_of(f"{path}.ffn.lin1"),
            down=f"{path}.ffn.lin2",
            intermediate_size=config.hidden_dim,
            activation=config.activation,
        )

    def input_names(self, config: ModelConfig) -> tuple[str, ...]:
        """DistilBERT has no segments."""
        _ = config
        return ("input_ids", "attention_mask")
