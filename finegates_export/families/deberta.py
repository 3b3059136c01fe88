"""DeBERTa v2 and v3: post-norm layers whose attention adds content-to-position and position-to-content terms.

He et al., 2020. The position terms read Q and K, or have their own linears: with `share_att_key` the same linears make
both, and a Q/K dim whose Q row (or K row) is zero is zero in all terms. Without it a dim is removed only if Q's row and
K's row are both zero.
"""

from __future__ import annotations

from finegates_export.families.bert import Bert
from finegates_export.families.model_config import ModelConfig
from finegates_export.families.structure import AttentionMap, rows_of

TERMS = {"c2p": "pos_key_proj", "p2c": "pos_query_proj"}
"""Position terms and their linears if Q's and K's are not shared."""


class Deberta(Bert):
    """`DebertaV2Model` and its task models."""

    name = "deberta-v2"
    model_types = ("deberta-v2",)
    prefix = "deberta"

    def attention(self, config: ModelConfig, path: str, index: int) -> AttentionMap:
        """Scores are also scaled by the number of terms in the sum."""
        _ = index
        module = f"{path}.attention.self"
        head_dim = getattr(config, "attention_head_size", None) or config.hidden_size // config.num_attention_heads
        terms = [term for term in TERMS if term in (config.pos_att_type or ())]
        own = config.relative_attention and not getattr(config, "share_att_key", False)
        return AttentionMap(
            module=module,
            query=rows_of(f"{module}.query_proj"),
            key=rows_of(f"{module}.key_proj"),
            value=rows_of(f"{module}.value_proj"),
            output=f"{path}.attention.output.dense",
            heads=config.num_attention_heads,
            head_dim=head_dim,
            kind="disentangled",
            scale=(head_dim * (1 + len(terms))) ** -0.5,
            dropout=config.attention_probs_dropout_prob,
            position_linears=tuple(f"{module}.{TERMS[term]}" for term in terms) if own else (),
            needs_all=bool(own and terms),
        )

    def input_names(self, config: ModelConfig) -> tuple[str, ...]:
        """Segments if the config has any."""
        segments = ("token_type_ids",) if config.type_vocab_size > 0 else ()
        return ("input_ids", "attention_mask", *segments)

    def width_refusal(self, config: ModelConfig) -> str | None:
        """Every reader of the residual stream must follow a norm that carries the gate."""
        if config.relative_attention and "layer_norm" not in (getattr(config, "norm_rel_ebd", None) or "none"):
            return "its relative position embeddings are read without a norm (norm_rel_ebd has no layer_norm)"
        if getattr(config, "conv_kernel_size", 0) > 0:
            return "its first layer has a convolution over the residual width"
        return None
