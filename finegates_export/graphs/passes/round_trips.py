"""Reshapes that lead back to the shape they started from: fusing attention leaves two in front of K and of V.

They copy nothing, and still are two kernels to start; in a small model at batch 1 that is seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np

HEADS_JOINED = [0, 0, -1]
"""From (batch, sequence, heads, width): the last two axes as one."""


def drop_round_trips(graph: Any) -> int:
    """Rewrite an `onnx_ir.Model` in place.

    Returns:
        How many pairs of reshapes are gone.
    """
    import onnx_ir.passes.common as passes

    trips = [node for node in graph.graph if _leads_back(node)]
    for node in trips:
        node.outputs[0].replace_all_uses_with(node.inputs[0].producer().inputs[0])
    passes.RemoveUnusedNodesPass()(graph)
    return len(trips)


def _leads_back(node: Any) -> bool:
    if node.op_type != "Reshape" or node.outputs[0].is_graph_output():
        return False
    apart = node.inputs[0]
    there, back = apart.producer(), node.inputs[1].const_value
    if there is None or there.op_type != "Reshape" or back is None or back.numpy().tolist() != HEADS_JOINED:
        return False
    start = there.inputs[0].shape
    if start is None or apart.shape is None or (len(start), len(apart.shape)) != (3, 4):
        return False
    inner = [*start][2:], [*apart.shape][2:]
    known = all(isinstance(size, int) for sizes in inner for size in sizes)
    return known and [*start][:2] == [*apart.shape][:2] and np.prod(inner[0]) == np.prod(inner[1])
