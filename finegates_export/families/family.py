"""What a family file answers about its architecture. Adding a family is a file and a line in `__init__`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from finegates_export.families.structure import Structure

if TYPE_CHECKING:
    from torch import nn


class Family(Protocol):
    """Structural questions about one model architecture, as method names.

    Implementations are stateless; `model` is a transformers model with a task head, without an adapter.
    """

    name: str
    """The name users see in messages and in `run.json`."""
    model_types: tuple[str, ...]
    """The `model_type` values of transformers configs that this family serves."""

    def structure(self, config: Any) -> Structure:
        """Where the linears are and how they are coupled, from the config alone."""

    def head_modules(self, model: nn.Module) -> tuple[str, ...]:
        """Paths of the modules outside the layers that are trained with the task: pooler and classifier."""

    def encoder(self, model: nn.Module) -> nn.Module:
        """The module whose first output is the last hidden state."""

    def input_names(self, config: Any) -> tuple[str, ...]:
        """The graph's inputs, named as the family's tokenizer names them."""

    def expected_fusions(self, config: Any, attention_layers: int, feed_forward_layers: int) -> dict[str, int]:
        """How many nodes of each class onnxruntime's CPU fusions must find.

        Args:
            config: the model's config.
            attention_layers: layers whose attention is not empty.
            feed_forward_layers: layers whose feed-forward network is not empty.
        """
