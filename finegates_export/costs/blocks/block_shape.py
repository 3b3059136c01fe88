"""What the cost table can ask a target about: a block of a model by its sizes."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

Feeds = dict[str, tuple[int, ...]]


class BlockShape(Protocol):
    """A block whose measured graph a target can write. Shapes are values: frozen, and equal where their fields are."""

    kind: ClassVar[str]
    """What kind of block it is, as files spell it."""

    @property
    def tokens(self) -> int:
        """Rows of its products: batch times sequence."""

    @property
    def copies(self) -> int:
        """How many blocks of this shape, each with its own weights, one measured graph holds."""

    @property
    def feeds(self) -> Feeds:
        """The shapes of what the graph reads, all of them float32, by name."""

    @property
    def numbers(self) -> int:
        """How many float32 numbers a session of it holds, about: weights as read and as packed, and activations."""

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON types."""

    def __hash__(self) -> int: ...
