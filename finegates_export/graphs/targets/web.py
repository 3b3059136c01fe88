"""onnxruntime-web in a browser: `ort-cpu`'s graph, whose fused operators its WASM build runs as well."""

from __future__ import annotations

from typing import Any

from finegates_export.graphs.targets import ort_cpu
from finegates_export.graphs.targets.target import FloatType, Integers, no_cache

NAME = "web"
OPSET = 20
CACHED_OPSET: int | None = None
WIDTHS = ort_cpu.WIDTHS
SETTLED_WIDTHS = ort_cpu.SETTLED_WIDTHS
FLOAT: FloatType = "float32"
INTEGERS: tuple[Integers, ...] = ("int8", "int8-static", "int4")


def finish(graph: Any, expected_fusions: dict[str, int]) -> Any:
    """See `Target.finish`."""
    return ort_cpu.finish(graph, expected_fusions)


def finish_cached(graph: Any, attention_layers: int) -> Any:
    """See `Target.finish_cached`."""
    raise no_cache(NAME)
