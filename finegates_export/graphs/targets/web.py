"""onnxruntime-web in a browser: `ort-cpu`'s graph, whose fused operators its WASM build runs as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finegates_export.graphs.targets import ort_cpu
from finegates_export.graphs.targets.target import FloatType, Integers, no_cache

if TYPE_CHECKING:
    from onnx_ir.passes import PassBase

NAME = "web"
OPSET = 20
CACHED_OPSET: int | None = None
WIDTHS = ort_cpu.WIDTHS
SETTLED_WIDTHS = ort_cpu.SETTLED_WIDTHS
FLOAT: FloatType = "float32"
INT8_BITS = 7
INTEGERS: tuple[Integers, ...] = ("int8", "int8-static", "int4")


def passes(expected_fusions: dict[str, int]) -> list[PassBase]:
    """See `Target.passes`."""
    return ort_cpu.passes(expected_fusions)


def cached_passes(attention_layers: int) -> list[PassBase]:
    """See `Target.cached_passes`."""
    raise no_cache(NAME)
