"""onnxruntime on the CPU: contrib operators fused in, any width taken."""

from __future__ import annotations

from typing import Any

from finegates_export.graphs.passes.fuse import check_fusions, fuse_for_ort
from finegates_export.graphs.passes.packing import STRIP
from finegates_export.graphs.passes.split_norms import split_skip_norms
from finegates_export.graphs.passes.standard import tidy
from finegates_export.graphs.passes.tied_head import tie_head
from finegates_export.graphs.passes.unpack_attention import unpack_attention
from finegates_export.graphs.targets.target import FloatType, Integers
from finegates_export.pruning.widths import Widths

NAME = "ort-cpu"
OPSET = 20
CACHED_OPSET: int | None = 23
"""Its Attention takes grouped heads of any width, values wider or narrower than keys, and any number of new tokens
behind a past. The contrib GroupQueryAttention takes none of these."""
WIDTHS = Widths(head_multiple=1, ffn_multiple=1)
SETTLED_WIDTHS = Widths(head_multiple=STRIP, ffn_multiple=1)
"""Heads that fill strips run in one operator; see `packing`."""
FLOAT: FloatType = "float32"
INTEGERS: tuple[Integers, ...] = ("int8", "int8-static", "int4")


def finish(graph: Any, expected_fusions: dict[str, int]) -> Any:
    """See `Target.finish`."""
    fused = fuse_for_ort(graph, expected_fusions)
    unpack_attention(fused)
    split_skip_norms(fused)
    return fused


def finish_cached(graph: Any, attention_layers: int) -> Any:
    """See `Target.finish_cached`; the operators of opset 23 are there already, a session fuses the rest."""
    tie_head(graph)
    tidy(graph)
    check_fusions(graph, {"attention": attention_layers})
    return graph
