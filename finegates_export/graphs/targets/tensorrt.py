"""TensorRT: standard operators that its builder fuses itself, float16 in the file, int8 as signed QDQ.

TensorRT takes precision from the graph (its FP16 and INT8 builder flags are gone), refuses contrib operators and
onnxruntime's dynamic quantization, and does not build opset 23's Attention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from finegates_export.graphs.targets.target import FloatType, Integers, no_cache
from finegates_export.pruning.widths import Widths

if TYPE_CHECKING:
    from onnx_ir.passes import PassBase

NAME = "tensorrt"
OPSET = 20
CACHED_OPSET: int | None = None
WIDTHS = SETTLED_WIDTHS = Widths(head_multiple=8, ffn_multiple=16)
"""Tensor cores align float16 products to 16 bytes and int8 products to 16 numbers."""
FLOAT: FloatType = "float16"
INT8_BITS = 8
INTEGERS: tuple[Integers, ...] = ("int8-static",)


def passes(expected_fusions: dict[str, int]) -> list[PassBase]:
    """See `Target.passes`; TensorRT fuses when it builds an engine, so nothing is expected."""
    from finegates_export.graphs.passes.standard import StandardOperators

    _ = expected_fusions
    return [StandardOperators()]


def cached_passes(attention_layers: int) -> list[PassBase]:
    """See `Target.cached_passes`."""
    raise no_cache(NAME)
