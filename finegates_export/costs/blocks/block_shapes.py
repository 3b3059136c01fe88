"""Every measured kind of block, by its name in files."""

from __future__ import annotations

from typing import Any

from finegates_export.costs.blocks.block_shape import BlockShape
from finegates_export.costs.blocks.layer_shapes import AttentionShape, FeedForwardShape
from finegates_export.costs.blocks.linear_shape import LinearShape

KINDS = {shape.kind: shape for shape in (LinearShape, AttentionShape, FeedForwardShape)}


def shape_to_json(shape: BlockShape) -> dict[str, object]:
    """Kind and fields, as JSON types."""
    return {"kind": shape.kind, **shape.to_json()}


def read_shape(values: dict[str, Any]) -> BlockShape:
    """Rebuild from `shape_to_json`.

    Raises:
        KeyError: an unknown kind, or none.
        ValueError: a field that its kind does not know, or an impossible value.
        TypeError: a field is missing.
    """
    fields = dict(values)
    shape: BlockShape = KINDS[fields.pop("kind")].from_json(fields)
    return shape
