"""Plain ONNX for everything else: OpenVINO, mobile runtimes. Standard operators alone, any width taken.

Opset 20 has GELU as one operator; `--opset 18` is for older runtimes and spells it out.
"""

from __future__ import annotations

from typing import Any

from finegates_export.graphs.passes.standard import standard_operators
from finegates_export.graphs.passes.tied_head import tie_head
from finegates_export.graphs.targets.target import FloatType, Integers
from finegates_export.pruning.widths import Widths

NAME = "portable"
OPSET = 20
CACHED_OPSET: int | None = 20
WIDTHS = SETTLED_WIDTHS = Widths(head_multiple=1, ffn_multiple=1)
FLOAT: FloatType = "float32"
INTEGERS: tuple[Integers, ...] = ("int8", "int8-static")


def finish(graph: Any, expected_fusions: dict[str, int]) -> Any:
    """See `Target.finish`; nothing is fused, so nothing is expected."""
    _ = expected_fusions
    return standard_operators(graph)


def finish_cached(graph: Any, attention_layers: int) -> Any:
    """See `Target.finish_cached`; attention is written out."""
    _ = attention_layers
    tie_head(graph)
    return standard_operators(graph)
