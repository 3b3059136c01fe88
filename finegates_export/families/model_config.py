"""What is read of a transformers config."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol


class ModelConfig(Protocol):
    """A transformers config. Its fields beyond these depend on the architecture: a family file knows their names."""

    model_type: str
    hidden_size: int
    vocab_size: int
    architectures: list[str] | None

    def to_dict(self) -> dict[str, Any]:
        """Every field."""

    def to_diff_dict(self) -> dict[str, Any]:
        """The fields that differ from the architecture's defaults."""

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write `config.json` into a folder."""

    def __getattr__(self, name: str) -> Any:
        """A field of the architecture's own."""


def image_shape(config: ModelConfig) -> tuple[int, int, int]:
    """Channels, height and width of the images that a config asks for."""
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return config.num_channels, height, width
