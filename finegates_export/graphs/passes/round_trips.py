"""Drops reshapes that undo each other: fusing attention leaves two before K and two before V.

They copy nothing, but starting two kernels takes noticeable time in a small model at batch 1.
"""

from __future__ import annotations

import numpy as np
import onnx_ir
from onnx_ir.passes import PassResult
from onnx_ir.passes.common import RemoveUnusedNodesPass

from finegates_export.errors import FusionError
from finegates_export.graphs.passes.graph_pass import GraphPass

HEADS_JOINED = [0, 0, -1]
"""From (batch, sequence, heads, width): the last two axes as one."""


class DropRoundTrips(GraphPass):
    """Drop pairs of reshapes if the second undoes the first."""

    def call(self, model: onnx_ir.Model) -> PassResult:
        """Connect the readers of the second to the input of the first."""
        modified = False
        for node in model.graph:
            start = _start_of(node)
            if start is not None:
                node.outputs[0].replace_all_uses_with(start)
                modified = True
        RemoveUnusedNodesPass()(model)
        return PassResult(model, modified)

    def ensures(self, model: onnx_ir.Model) -> None:
        """No such pair is left.

        Raises:
            FusionError: one is.
        """
        left = next((node for node in model.graph if _start_of(node) is not None), None)
        if left is not None:
            raise self.refusal(FusionError, f"{left.name} still reshapes to where its input came from")


def _start_of(node: onnx_ir.Node) -> onnx_ir.Value | None:
    """The input of the first of two reshapes, if the node is the second; else None."""
    apart, back = (*node.inputs, None, None)[:2]
    if node.op_type != "Reshape" or node.outputs[0].is_graph_output() or apart is None or back is None:
        return None
    there = apart.producer()
    start = there.inputs[0] if there is not None and there.op_type == "Reshape" else None
    if start is None or back.const_value is None or back.const_value.numpy().tolist() != HEADS_JOINED:
        return None
    if start.shape is None or apart.shape is None or (len(start.shape), len(apart.shape)) != (3, 4):
        return None
    before, between = [*start.shape], [*apart.shape]
    sizes = [[size for size in dims[2:] if isinstance(size, int)] for dims in (before, between)]
    same = (len(sizes[0]), len(sizes[1])) == (1, 2) and np.prod(sizes[0]) == np.prod(sizes[1])
    return start if same and before[:2] == between[:2] else None
