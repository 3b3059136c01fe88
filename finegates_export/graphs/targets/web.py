"""onnxruntime-web in a browser: `ort-cpu`'s graph, whose fused operators its WASM build runs as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finegates_export.graphs.targets import ort_cpu
from finegates_export.graphs.targets.target import FloatType, Integers, no_cache

if TYPE_CHECKING:
    import onnx_ir
    from onnx_ir.passes import PassBase

NAME = "web"
OPSET = 20
CACHED_OPSET: int | None = None
WIDTHS = ort_cpu.WIDTHS
SETTLED_WIDTHS = ort_cpu.SETTLED_WIDTHS
FLOAT: FloatType = "float32"
INTEGERS: tuple[Integers, ...] = ("int8", "int8-static", "int4")


def passes(expected_fusions: dict[str, int]) -> list[PassBase]:
    """See `Target.passes`."""
    return ort_cpu.passes(expected_fusions)


def cached_passes(attention_layers: int) -> list[PassBase]:
    """See `Target.cached_passes`."""
    raise no_cache(NAME)


def finish(graph: onnx_ir.Model, expected_fusions: dict[str, int]) -> onnx_ir.Model:
    """See `Target.finish`."""
    from finegates_export.graphs.passes.graph_pass import run_passes

    return run_passes(graph, passes(expected_fusions))


def finish_cached(graph: onnx_ir.Model, attention_layers: int) -> onnx_ir.Model:
    """See `Target.finish_cached`."""
    from finegates_export.graphs.passes.graph_pass import run_passes

    return run_passes(graph, cached_passes(attention_layers))
