"""ViT and DeiT: pre-norm layers over image patches, no mask (Dosovitskiy et al., 2020; Touvron et al., 2020)."""

from __future__ import annotations

from collections.abc import Sequence

from finegates_export.families.family import Family
from finegates_export.families.model_config import ModelConfig
from finegates_export.families.structure import AttentionMap, FeedForwardMap, rows_of


class ViT(Family):
    """`ViTModel` and its image classifier."""

    name = "vit"
    model_types = ("vit",)
    prefix = "vit"
    layers = "layers"
    extra_tokens = 1
    """Tokens before the patches."""

    def attention(self, config: ModelConfig, path: str, index: int) -> AttentionMap:
        """See `Family.attention`."""
        _ = index
        module = f"{path}.attention"
        return AttentionMap(
            module=module,
            query=rows_of(f"{module}.q_proj"),
            key=rows_of(f"{module}.k_proj"),
            value=rows_of(f"{module}.v_proj"),
            output=f"{module}.o_proj",
            heads=config.num_attention_heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            dropout=config.attention_probs_dropout_prob,
        )

    def feed_forward(self, config: ModelConfig, path: str) -> FeedForwardMap:
        """See `Family.feed_forward`."""
        return FeedForwardMap(
            module=f"{path}.mlp",
            up=rows_of(f"{path}.mlp.fc1"),
            down=f"{path}.mlp.fc2",
            intermediate_size=config.intermediate_size,
            activation=config.hidden_act,
        )

    def input_names(self, config: ModelConfig) -> tuple[str, ...]:
        """Only pixels: every patch is attended."""
        _ = config
        return ("pixel_values",)

    def max_length(self, config: ModelConfig) -> int:
        """The only sequence length: patches and the tokens before them."""
        sides = [_pair(size) for size in (config.image_size, config.patch_size)]
        return (sides[0][0] // sides[1][0]) * (sides[0][1] // sides[1][1]) + self.extra_tokens


class DeiT(ViT):
    """`DeiTModel`: ViT with a distillation token."""

    name = "deit"
    model_types = ("deit",)
    prefix = "deit"
    extra_tokens = 2


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
