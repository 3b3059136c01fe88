"""A block of a model, by its sizes: what the cost table measures."""

from __future__ import annotations

from typing import ClassVar, Protocol

Feeds = dict[str, tuple[int, ...]]


class BlockShape(Protocol):
    """A block that a target can write as a graph. Shapes are values: frozen, and equal if their fields are."""

    kind: ClassVar[str]
    """The kind of block, as spelled in files."""

    @property
    def tokens(self) -> int:
        """Rows of its products: batch times sequence."""

    @property
    def copies(self) -> int:
        """Number of blocks of this shape, each with its own weights, in one measured graph."""

    @property
    def feeds(self) -> Feeds:
        """Shapes of the graph's inputs, all float32, by name."""

    @property
    def numbers(self) -> int:
        """Approximate float32 numbers in a session: weights as read and as packed, and activations."""

    def to_json(self) -> dict[str, object]:
        """The fields as JSON types."""

    def __hash__(self) -> int: ...
