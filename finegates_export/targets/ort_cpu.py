"""onnxruntime on the CPU: contrib operators fused in, any width taken."""

from __future__ import annotations

from typing import Any

from finegates_export.gates.settle import Widths
from finegates_export.onnx.fuse import fuse_for_ort
from finegates_export.targets.block_shape import BlockShape
from finegates_export.targets.layer_shapes import AttentionShape, FeedForwardShape
from finegates_export.targets.linear_shape import LinearShape
from finegates_export.targets.ort_layers import attention_graph, feed_forward_graph
from finegates_export.targets.ort_linear import linear_graph
from finegates_export.targets.ort_norms import split_skip_norms
from finegates_export.targets.ort_unpack import unpack_attention
from finegates_export.targets.target import FloatType, Integers

NAME = "ort-cpu"
OPSET = 20
WIDTHS = Widths(head_multiple=1, ffn_multiple=1)
"""Which widths its kernels like."""
FLOAT: FloatType = "float32"
INTEGERS: tuple[Integers, ...] = ("int8", "int8-static", "int4")


def finish(graph: Any, expected_fusions: dict[str, int]) -> Any:
    """See `Target.finish`."""
    fused = fuse_for_ort(graph, expected_fusions)
    unpack_attention(fused)
    split_skip_norms(fused)
    return fused


def block_graph(shape: BlockShape, seed: int = 0) -> bytes:
    """See `MeasuredTarget.block_graph`."""
    if isinstance(shape, LinearShape):
        return linear_graph(shape, OPSET, seed)
    if isinstance(shape, AttentionShape):
        return attention_graph(shape, OPSET, seed)
    if isinstance(shape, FeedForwardShape):
        return feed_forward_graph(shape, OPSET, seed)
    raise TypeError(f"{NAME} writes no blocks of the kind {shape.kind!r}")
