"""OpenVINO: attention as one operator in the graph, from which its IR is written; any width.

OpenVINO reads opset 23's Attention as its ScaledDotProductAttention, which it runs fused; of a graph with the softmax
spelled out its CPU kernels fuse few families.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from finegates_export.graphs.targets.target import FloatType, Integers, no_cache
from finegates_export.pruning.widths import Widths

if TYPE_CHECKING:
    from onnx_ir.passes import PassBase

NAME = "openvino"
OPSET = 23
CACHED_OPSET: int | None = None
WIDTHS = SETTLED_WIDTHS = Widths(head_multiple=1, ffn_multiple=1)
FLOAT: FloatType = "float32"
INT8_BITS = 7
INTEGERS: tuple[Integers, ...] = ()


def passes(expected_fusions: dict[str, int]) -> list[PassBase]:
    """See `Target.passes`; of the fusions, attention alone is an operator of the standard."""
    from finegates_export.graphs.passes.standard import StandardOperators

    return [StandardOperators({name: expected_fusions[name] for name in ("attention",) if name in expected_fusions})]


def cached_passes(attention_layers: int) -> list[PassBase]:
    """See `Target.cached_passes`."""
    raise no_cache(NAME)
