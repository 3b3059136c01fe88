"""Blocks of layers as `ort-cpu` runs them."""

from __future__ import annotations

from finegates_export.costs.blocks.block_shape import BlockShape
from finegates_export.costs.blocks.layer_shapes import AttentionShape, FeedForwardShape
from finegates_export.costs.blocks.layers import attention_graph, feed_forward_graph
from finegates_export.costs.blocks.linear import linear_graph
from finegates_export.costs.blocks.linear_shape import LinearShape
from finegates_export.graphs.targets import ort_cpu

NAME, OPSET = ort_cpu.NAME, ort_cpu.OPSET


def block_graph(shape: BlockShape, seed: int = 0) -> bytes:
    """A graph of a few blocks of one shape, for the cost table.

    Args:
        shape: the block.
        seed: seed of everything random.

    Returns:
        An ONNX file; its inputs are `shape.feeds`, its outputs single numbers.

    Raises:
        TypeError: this target cannot write that kind of block.
    """
    if isinstance(shape, LinearShape):
        return linear_graph(shape, OPSET, seed)
    if isinstance(shape, AttentionShape):
        return attention_graph(shape, OPSET, seed)
    if isinstance(shape, FeedForwardShape):
        return feed_forward_graph(shape, OPSET, seed)
    raise TypeError(f"{NAME} has no blocks of the kind {shape.kind!r}")
