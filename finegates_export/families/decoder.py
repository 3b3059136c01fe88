"""What decoders share: no segments, a frozen LM head, sequence heads that read the last token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finegates_export.families.family import Family
from finegates_export.families.model_config import ModelConfig

if TYPE_CHECKING:
    from torch import nn

LM_HEAD = "lm_head"
"""transformers' name of the linear that makes logits over the vocabulary."""

BY_LENGTH = ("dynamic", "longrope")
"""Kinds of rotary scaling whose angles depend on the text."""


class Decoder(Family):
    """A causal language model and its task models."""

    prefix = "model"
    layers = "layers"
    causal = True

    def head_modules(self, model: nn.Module) -> tuple[str, ...]:
        """The task's own head. The LM head belongs to the base and stays unchanged, tied to the embeddings or not."""
        return tuple(path for path in super().head_modules(model) if path != LM_HEAD)

    def input_names(self, config: ModelConfig) -> tuple[str, ...]:
        """Decoders have no segments."""
        _ = config
        return ("input_ids", "attention_mask")

    def refusal(self, config: ModelConfig) -> str | None:
        """Some rotary angles depend on the text's length, but a graph has one set of them."""
        kind = (getattr(config, "rope_parameters", None) or {}).get("rope_type")
        if kind not in BY_LENGTH:
            return None
        return (
            f"its rotary angles depend on a text's length (rope_type {kind!r}), and a graph has one set of them; take "
            "a base whose angles are the same at every length"
        )

    def width_refusal(self, config: ModelConfig) -> str | None:
        """The width gate's norm is a LayerNorm, and narrower embeddings would no longer be the LM head's."""
        _ = config
        return "the residual width of decoders is not gated: their embeddings are their LM head as well"
