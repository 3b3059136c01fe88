"""Fusion for onnxruntime's CPU kernels; fewer fused nodes than the family promises are an error."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir
from onnx_ir.passes import PassResult, Sequential

from finegates_export.errors import FusionError
from finegates_export.graphs.inspect import ATTENTION, CONTRIB_DOMAIN, NORMALIZATION, inspect_graph
from finegates_export.graphs.passes.fold_constants import FoldConstants
from finegates_export.graphs.passes.graph_pass import GraphPass
from finegates_export.graphs.passes.round_trips import DropRoundTrips
from finegates_export.graphs.passes.skip_normalization import FuseSkipNormalization
from finegates_export.graphs.values import VERSIONS

CHANGED = f"A pattern changed, most likely with the version of torch or onnxscript: {VERSIONS}"
"""Remedy for a graph that is not what the passes expect."""


class CountedFusions(GraphPass):
    """A pass after which the graph has as many fused operators as expected.

    Args:
        expected: fused nodes by class (attention, normalization, activation), as the family expects them.
    """

    def __init__(self, expected: Mapping[str, int]) -> None:
        self.expected = dict(expected)

    def ensures(self, model: onnx_ir.Model) -> None:
        """No class has fewer nodes than expected.

        Raises:
            FusionError: one has.
        """
        found = inspect_graph(model).fused
        short = {name: (found[name], count) for name, count in self.expected.items() if found[name] < count}
        if short:
            told = ", ".join(f"{name}: {have} of {want}" for name, (have, want) in short.items())
            raise self.refusal(
                FusionError, f"only part of the graph was fused ({told}); it would be correct but slow. {CHANGED}"
            )


class FuseForOrt(CountedFusions):
    """Replace plain operators by onnxruntime's fused ones.

    It uses onnxscript's fusions: onnxruntime's own ignore the graph's softmax scale and default to that of the *new*
    head size.
    """

    def requires(self, model: onnx_ir.Model) -> None:
        """Nothing is fused yet.

        Raises:
            FusionError: an operator is fused already; it would be counted without being checked.
        """
        fused = (*ATTENTION, *NORMALIZATION)
        done = next((node for node in model.graph if node.domain == CONTRIB_DOMAIN and node.op_type in fused), None)
        if done is not None:
            raise self.refusal(
                FusionError, f"the graph has {done.op_type} ({done.name}); give a graph of plain operators"
            )

    def call(self, model: onnx_ir.Model) -> PassResult:
        """Fuse, then fold the matrices that fusion packed."""
        from onnxscript.rewriter.ort_fusions import optimize_for_ort

        optimize_for_ort(model, clear_metadata=True)
        # Fused attention packs Q, K and V; the default limit would leave that to every start of a session.
        Sequential(FuseSkipNormalization(), DropRoundTrips(), FoldConstants())(model)
        return PassResult(model, modified=True)
