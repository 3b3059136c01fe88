"""MPNet: BERT's layers with one relative position bias for all of them, a bias per head (Song et al., 2020)."""

from __future__ import annotations

from finegates_export.families.bert import Bert
from finegates_export.families.model_config import ModelConfig
from finegates_export.families.structure import AttentionMap, rows_of


class MPNet(Bert):
    """`MPNetModel` and its task models."""

    name = "mpnet"
    model_types = ("mpnet",)
    prefix = "mpnet"

    def attention(self, config: ModelConfig, path: str, index: int) -> AttentionMap:
        """The output projection lies inside; the bias of removed heads is omitted from the sum."""
        _ = index
        module = f"{path}.attention.attn"
        return AttentionMap(
            module=module,
            query=rows_of(f"{module}.q"),
            key=rows_of(f"{module}.k"),
            value=rows_of(f"{module}.v"),
            output=f"{module}.o",
            heads=config.num_attention_heads,
            head_dim=config.hidden_size // config.num_attention_heads,
            kind="relative",
            dropout=config.attention_probs_dropout_prob,
        )

    def max_length(self, config: ModelConfig) -> int:
        """Positions start after id 1, which the model takes for padding regardless of the config."""
        return int(config.max_position_embeddings - 2)
