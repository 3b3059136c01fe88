"""What a family file answers about its architecture. Adding a family is a file and a line in `__init__`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from finegates_export.families.model_config import ModelConfig
from finegates_export.families.structure import AttentionMap, FeedForwardMap, LayerMap, Structure

if TYPE_CHECKING:
    from torch import Tensor, nn

FUSED_ACTIVATIONS = ("gelu", "gelu_python", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate")
"""Activations for which onnxruntime has one kernel, by transformers' names."""


class Family(ABC):
    """Structural questions about one model architecture, as method names; common answers are given here.

    Implementations are stateless; `model` is a transformers model with a task head (or a plain encoder held under
    `prefix`), without an adapter.
    """

    name: str
    """The name users see in messages and in `run.json`."""
    model_types: tuple[str, ...]
    """The `model_type` values of transformers configs that this family serves."""
    prefix: str
    """The attribute under which a task model holds the encoder."""
    layers: str = "encoder.layer"
    """Where the encoder holds its layers."""
    causal: bool = False
    """Whether a token attends only to those before it: then a head over a whole text reads the last token, which it
    finds by the padding token's id, and keys and values can be cached."""

    @abstractmethod
    def attention(self, config: ModelConfig, path: str, index: int) -> AttentionMap:
        """A layer's attention.

        Args:
            config: the model's config.
            path: the layer's path.
            index: the layer's number.
        """

    @abstractmethod
    def feed_forward(self, config: ModelConfig, path: str) -> FeedForwardMap:
        """A layer's feed-forward network; see `attention`."""

    def structure(self, config: ModelConfig) -> Structure:
        """Where the linears are and how they are coupled, from only the config."""
        layers = tuple(
            LayerMap(index, self.attention(config, path, index), self.feed_forward(config, path))
            for index, path in enumerate(self.layer_paths(config))
        )
        return Structure(config.hidden_size, layers)

    def layer_paths(self, config: ModelConfig) -> list[str]:
        """The layers' paths in a task model, in order."""
        return [f"{self.prefix}.{self.layers}.{index}" for index in range(config.num_hidden_layers)]

    def make_linears(self, model: nn.Module) -> None:
        """Turn other modules that hold a layer's matrix into `nn.Linear`, in place; called once per model."""
        _ = model

    def stored_tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """A model's tensors as transformers stores them: the way back from `make_linears`."""
        return dict(model.state_dict())

    def head_modules(self, model: nn.Module) -> tuple[str, ...]:
        """Paths of the modules outside the layers that are trained with the task: pooler and classifier.

        The pooler belongs to the head: it reads the encoder's output, and no layer depends on it.
        """
        pooler = getattr(self.encoder(model), "pooler", None)
        own = [name for name, child in model.named_children() if name != self.prefix and [*child.parameters()]]
        return (*([f"{self.prefix}.pooler"] if pooler is not None else []), *own)

    def encoder(self, model: nn.Module) -> nn.Module:
        """The module whose first output is the last hidden state."""
        return model.get_submodule(self.prefix)

    def input_names(self, config: ModelConfig) -> tuple[str, ...]:
        """The graph's inputs, named as the family's tokenizer names them; segments only if the model uses them."""
        segments = ("token_type_ids",) if getattr(config, "type_vocab_size", 0) > 1 else ()
        return ("input_ids", "attention_mask", *segments)

    def max_length(self, config: ModelConfig) -> int:
        """The longest sequence that the model takes, special tokens included."""
        return int(config.max_position_embeddings)

    def expected_fusions(self, config: ModelConfig, attention_layers: int, feed_forward_layers: int) -> dict[str, int]:
        """The number of nodes of each class that onnxruntime's CPU fusions must find.

        One attention and one activation per layer; a norm after (or, in pre-norm layers, before the next of) each
        remaining sublayer.

        Args:
            config: the model's config.
            attention_layers: layers whose attention is not empty.
            feed_forward_layers: layers whose feed-forward network is not empty.
        """
        activation = self.feed_forward(config, "").activation
        return {
            "attention": attention_layers,
            "normalization": attention_layers + feed_forward_layers,
            "activation": feed_forward_layers if activation in FUSED_ACTIVATIONS else 0,
        }

    def refusal(self, config: ModelConfig) -> str | None:
        """Why a model of this family is not supported; None if it is."""
        _ = config
        return None

    def width_refusal(self, config: ModelConfig) -> str | None:
        """Why the residual width cannot be gated; None if it can."""
        _ = config
        return None
