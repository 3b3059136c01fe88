"""A graph that any ONNX runtime takes: constants folded, nothing but the standard's own operators."""

from __future__ import annotations

from typing import Any

from finegates_export.errors import FusionError
from finegates_export.graphs.passes.fuse import FOLD_LIMIT

STANDARD_DOMAINS = ("", "ai.onnx")


def standard_operators(graph: Any) -> Any:
    """See `tidy`; and check every node's domain.

    Args:
        graph: an `onnx_ir.Model`; changed in place.

    Raises:
        FusionError: an operator of another domain.
    """
    tidy(graph)
    foreign = sorted({f"{node.domain}.{node.op_type}" for node in graph.graph if node.domain not in STANDARD_DOMAINS})
    if foreign:
        raise FusionError(
            f"the graph has operators that are not of the ONNX standard: {', '.join(foreign)}. A pattern changed, most "
            "likely with the version of torch or onnxscript: install the versions of constraints.txt"
        )
    return graph


def tidy(graph: Any) -> None:
    """Fold what does not depend on the input, compute once what is the same, and drop what nothing reads, in place."""
    import onnx_ir.passes.common as passes
    from onnxscript.optimizer import fold_constants

    # Scales and zero points of a quantized graph are constants too: folding through them would undo it.
    fold_constants(
        graph,
        input_size_limit=FOLD_LIMIT,
        output_size_limit=FOLD_LIMIT,
        should_fold=lambda node: False if node.op_type == "DequantizeLinear" else None,
    )
    for one in (passes.IdentityEliminationPass(), passes.CommonSubexpressionEliminationPass()):
        one(graph)
    passes.RemoveUnusedNodesPass()(graph)
