"""BERT and the families that share its modules: post-norm layers, biases everywhere, output projections outside."""

from __future__ import annotations

from finegates_export.families.family import Family
from finegates_export.families.model_config import ModelConfig
from finegates_export.families.structure import AttentionMap, FeedForwardMap, rows_of

ABSOLUTE = "absolute"
"""Position embeddings that are added to token embeddings."""


class Bert(Family):
    """`BertModel` and its task models (Devlin et al., 2018)."""

    name: str = "bert"
    model_types: tuple[str, ...] = ("bert",)
    prefix: str = "bert"

    def attention(self, config: ModelConfig, path: str, index: int) -> AttentionMap:
        """See `Family.attention`."""
        _ = index
        return AttentionMap(
            module=f"{path}.attention.self",
            query=rows_of(f"{path}.attention.self.query"),
            key=rows_of(f"{path}.attention.self.key"),
            value=rows_of(f"{path}.attention.self.value"),
            output=f"{path}.attention.output.dense",
            heads=config.num_attention_heads,
            head_dim=config.hidden_size // config.num_attention_heads,
            dropout=config.attention_probs_dropout_prob,
        )

    def feed_forward(self, config: ModelConfig, path: str) -> FeedForwardMap:
        """See `Family.feed_forward`."""
        return FeedForwardMap(
            module=f"{path}.intermediate",
            up=rows_of(f"{path}.intermediate.dense"),
            down=f"{path}.output.dense",
            intermediate_size=config.intermediate_size,
            activation=config.hidden_act,
        )

    def refusal(self, config: ModelConfig) -> str | None:
        """Some models have relative embeddings in their weights, which transformers would silently ignore."""
        kind = getattr(config, "position_embedding_type", None) or ABSOLUTE
        if kind == ABSOLUTE:
            return None
        return (
            f"its config.json asks for position_embedding_type {kind!r}, which transformers no longer computes; "
            f"supported is {ABSOLUTE!r}"
        )


class Electra(Bert):
    """`ElectraModel`: BERT with embeddings that may be narrower than the layers (Clark et al., 2020)."""

    name = "electra"
    model_types = ("electra",)
    prefix = "electra"
