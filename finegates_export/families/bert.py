"""BERT: post-norm layers, absolute positions, biases everywhere (Devlin et al., 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finegates_export.families.structure import AttentionMap, FeedForwardMap, LayerMap, Structure

if TYPE_CHECKING:
    from torch import nn


class Bert:
    """`BertModel` and its task models."""

    name: str = "bert"
    model_types: tuple[str, ...] = ("bert",)

    def structure(self, config: Any) -> Structure:
        """See `Family.structure`."""
        return Structure(config.hidden_size, tuple(self._layer(config, i) for i in range(config.num_hidden_layers)))

    def _layer(self, config: Any, index: int) -> LayerMap:
        path = f"bert.encoder.layer.{index}"
        attention = AttentionMap(
            module=f"{path}.attention.self",
            query=f"{path}.attention.self.query",
            key=f"{path}.attention.self.key",
            value=f"{path}.attention.self.value",
            output=f"{path}.attention.output.dense",
            heads=config.num_attention_heads,
            head_dim=config.hidden_size // config.num_attention_heads,
        )
        feed_forward = FeedForwardMap(
            up=f"{path}.intermediate.dense",
            down=f"{path}.output.dense",
            intermediate_size=config.intermediate_size,
            activation=config.hidden_act,
        )
        return LayerMap(index, attention, feed_forward)

    def head_modules(self, model: nn.Module) -> tuple[str, ...]:
        """The pooler belongs to the head: it reads the encoder's output and nothing of a layer depends on it."""
        return tuple(name for name in ("bert.pooler", "classifier") if _has(model, name))

    def encoder(self, model: nn.Module) -> nn.Module:
        """See `Family.encoder`."""
        return model.get_submodule("bert")

    def input_names(self, config: Any) -> tuple[str, ...]:
        """Segment ids only where the model distinguishes segments."""
        segments = ("token_type_ids",) if config.type_vocab_size > 1 else ()
        return ("input_ids", "attention_mask", *segments)

    def expected_fusions(self, config: Any, attention_layers: int, feed_forward_layers: int) -> dict[str, int]:
        """One attention and one bias-and-GELU a layer; a norm behind each sublayer that is left."""
        return {
            "attention": attention_layers,
            "normalization": attention_layers + feed_forward_layers,
            "activation": feed_forward_layers if config.hidden_act == "gelu" else 0,
        }


def _has(model: nn.Module, path: str) -> bool:
    try:
        return model.get_submodule(path) is not None
    except AttributeError:
        return False
