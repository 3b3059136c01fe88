"""Keeps some of a graph's outputs, and what they depend on."""

from __future__ import annotations

import onnx_ir
from onnx_ir.passes import PassResult
from onnx_ir.passes.common import RemoveUnusedNodesPass

from finegates_export.errors import ChainError
from finegates_export.graphs.passes.graph_pass import GraphPass


class KeepOutputs(GraphPass):
    """Keep only these outputs.

    Args:
        names: their names, in order.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def requires(self, model: onnx_ir.Model) -> None:
        """The graph has them.

        Raises:
            ChainError: it lacks one.
        """
        have = [output.name for output in model.graph.outputs]
        missing = next((name for name in self.names if name not in have), None)
        if missing is not None:
            told = ", ".join(map(str, have))
            raise self.refusal(ChainError, f"the graph returns no {missing}; it returns {told}")

    def call(self, model: onnx_ir.Model) -> PassResult:
        """Drop the others."""
        named = {output.name: output for output in model.graph.outputs}
        before = [*model.graph.outputs]
        model.graph.outputs[:] = [named[name] for name in self.names]
        removed = RemoveUnusedNodesPass()(model).modified
        return PassResult(model, removed or before != [*model.graph.outputs])
