"""onnxruntime on NVIDIA GPUs: fused contrib operators, float16 inside, widths that tensor cores take whole."""

from __future__ import annotations

from typing import Any

from finegates_export.graphs.passes.fuse import fuse_for_ort
from finegates_export.graphs.targets.target import FloatType, Integers, no_cache
from finegates_export.pruning.widths import Widths

NAME = "ort-cuda"
OPSET = 20
CACHED_OPSET: int | None = None
WIDTHS = SETTLED_WIDTHS = Widths(head_multiple=8, ffn_multiple=8)
"""Float16 products of tensor cores are aligned to 16 bytes."""
FLOAT: FloatType = "float16"
INTEGERS: tuple[Integers, ...] = ("int4",)


def finish(graph: Any, expected_fusions: dict[str, int]) -> Any:
    """See `Target.finish`."""
    return fuse_for_ort(graph, expected_fusions)


def finish_cached(graph: Any, attention_layers: int) -> Any:
    """See `Target.finish_cached`."""
    raise no_cache(NAME)
