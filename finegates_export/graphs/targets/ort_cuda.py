"""onnxruntime on NVIDIA GPUs: fused contrib operators, float16 inside, widths that fill tensor cores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finegates_export.graphs.targets.target import FloatType, Integers, no_cache
from finegates_export.pruning.widths import Widths

if TYPE_CHECKING:
    from onnx_ir.passes import PassBase

NAME = "ort-cuda"
OPSET = 20
CACHED_OPSET: int | None = None
WIDTHS = SETTLED_WIDTHS = Widths(head_multiple=8, ffn_multiple=8)
"""Float16 products of tensor cores are aligned to 16 bytes."""
FLOAT: FloatType = "float16"
INT8_BITS = 8
INTEGERS: tuple[Integers, ...] = ("int4",)


def passes(expected_fusions: dict[str, int]) -> list[PassBase]:
    """See `Target.passes`."""
    from finegates_export.graphs.passes.fuse import FuseForOrt

    return [FuseForOrt(expected_fusions)]


def cached_passes(attention_layers: int) -> list[PassBase]:
    """See `Target.cached_passes`."""
    raise no_cache(NAME)
