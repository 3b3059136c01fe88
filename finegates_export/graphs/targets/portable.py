"""Plain ONNX for everything else (OpenVINO, mobile runtimes): standard operators only, any width.

Opset 20 has GELU as one operator; `--opset 18`, for older runtimes, spells it out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from finegates_export.graphs.targets.target import FloatType, Integers
from finegates_export.pruning.widths import Widths

if TYPE_CHECKING:
    from onnx_ir.passes import PassBase

NAME = "portable"
OPSET = 20
CACHED_OPSET: int | None = 20
WIDTHS = SETTLED_WIDTHS = Widths(head_multiple=1, ffn_multiple=1)
FLOAT: FloatType = "float32"
INT8_BITS = 7
INTEGERS: tuple[Integers, ...] = ("int8", "int8-static")


def passes(expected_fusions: dict[str, int]) -> list[PassBase]:
    """See `Target.passes`; nothing is fused, so nothing is expected."""
    from finegates_export.graphs.passes.standard import StandardOperators

    _ = expected_fusions
    return [StandardOperators()]


def cached_passes(attention_layers: int) -> list[PassBase]:
    """See `Target.cached_passes`; attention is in elementary operators."""
    from finegates_export.graphs.passes.standard import StandardOperators
    from finegates_export.graphs.passes.tied_head import TieHead

    _ = attention_layers
    return [TieHead(), StandardOperators()]
