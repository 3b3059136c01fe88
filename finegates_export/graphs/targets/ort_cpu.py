"""onnxruntime on the CPU: fused contrib operators, any width."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finegates_export.graphs.passes.packing import STRIP
from finegates_export.graphs.targets.target import FloatType, Integers
from finegates_export.pruning.widths import Widths

if TYPE_CHECKING:
    from onnx_ir.passes import PassBase

NAME = "ort-cpu"
OPSET = 20
CACHED_OPSET: int | None = 23
"""Its Attention takes grouped heads of any width, values wider or narrower than keys, and any number of new tokens
after cached ones. The contrib GroupQueryAttention takes none of these."""
WIDTHS = Widths(head_multiple=1, ffn_multiple=1)
SETTLED_WIDTHS = Widths(head_multiple=STRIP, ffn_multiple=1)
"""Heads that fill whole strips run in one operator; see `packing`."""
FLOAT: FloatType = "float32"
INT8_BITS = 7
INTEGERS: tuple[Integers, ...] = ("int8", "int8-static", "int4")


def passes(expected_fusions: dict[str, int]) -> list[PassBase]:
    """See `Target.passes`."""
    from finegates_export.graphs.passes.fuse import FuseForOrt
    from finegates_export.graphs.passes.split_norms import SplitSkipNorms
    from finegates_export.graphs.passes.unpack_attention import UnpackAttention

    return [FuseForOrt(expected_fusions), UnpackAttention(), SplitSkipNorms()]


def cached_passes(attention_layers: int) -> list[PassBase]:
    """See `Target.cached_passes`; opset 23 has the fused operators already, and a session fuses the rest."""
    from finegates_export.graphs.passes.standard import Tidy
    from finegates_export.graphs.passes.tied_head import TieHead

    return [TieHead(), Tidy({"attention": attention_layers})]
