"""TensorRT: standard operators that its builder fuses itself, float16 in the file, int8 as signed QDQ.

TensorRT takes precision from the graph (its FP16 and INT8 builder flags are gone), refuses contrib operators and
onnxruntime's dynamic quantization, and does not build opset 23's Attention.
"""

from __future__ import annotations

from typing import Any

from finegates_export.graphs.passes.standard import standard_operators
from finegates_export.graphs.targets.target import FloatType, Integers, no_cache
from finegates_export.pruning.widths import Widths

NAME = "tensorrt"
OPSET = 20
CACHED_OPSET: int | None = None
WIDTHS = SETTLED_WIDTHS = Widths(head_multiple=8, ffn_multiple=16)
"""Float16 products of tensor cores are aligned to 16 bytes, int8 ones to 16 numbers."""
FLOAT: FloatType = "float16"
INTEGERS: tuple[Integers, ...] = ("int8-static",)


def finish(graph: Any, expected_fusions: dict[str, int]) -> Any:
    """See `Target.finish`; TensorRT fuses when it builds, so nothing is expected."""
    _ = expected_fusions
    return standard_operators(graph)


def finish_cached(graph: Any, attention_layers: int) -> Any:
    """See `Target.finish_cached`."""
    raise no_cache(NAME)
