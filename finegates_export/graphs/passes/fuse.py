"""Fusion for onnxruntime's CPU kernels, counted: finding less than the family promises is an error."""

from __future__ import annotations

from typing import Any

from finegates_export.errors import FusionError
from finegates_export.graphs.inspect import inspect_graph
from finegates_export.graphs.passes.round_trips import drop_round_trips
from finegates_export.graphs.passes.skip_normalization import fuse_skip_normalization

FOLD_LIMIT = 1 << 30
"""Elements; larger than any matrix that is packed."""


def fuse_for_ort(graph: Any, expected: dict[str, int]) -> Any:
    """Replace plain operators by onnxruntime's fused ones, in place.

    onnxscript's fusions are used and not onnxruntime's own: those read no softmax scale from the graph and default to
    that of the *new* head size.

    Args:
        graph: an `onnx_ir.Model` of plain operators.
        expected: fused nodes by class, as the family expects them.

    Returns:
        The fused graph.

    Raises:
        FusionError: fewer fused nodes of a class than expected.
    """
    from onnxscript.optimizer import fold_constants
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    fused, _ = optimize_for_ort(graph, clear_metadata=True)
    fuse_skip_normalization(fused)
    drop_round_trips(fused)
    # Fused attention packs Q, K and V; by default matrices of that size are left to be packed at every start.
    fold_constants(fused, input_size_limit=FOLD_LIMIT, output_size_limit=FOLD_LIMIT)
    check_fusions(fused, expected)
    return fused


def check_fusions(graph: Any, expected: dict[str, int]) -> None:
    """Count fused operators.

    Args:
        graph: an `onnx_ir.Model`.
        expected: fused nodes by class.

    Raises:
        FusionError: fewer fused nodes of a class than expected.
    """
    found = inspect_graph(graph).fused
    short = {name: (found[name], count) for name, count in expected.items() if found[name] < count}
    if short:
        told = ", ".join(f"{name}: {have} of {want}" for name, (have, want) in short.items())
        raise FusionError(
            f"the graph was fused in part only ({told}); it would be right but slow. A pattern changed, most likely "
            "with the version of torch or onnxscript: install the versions of constraints.txt"
        )
