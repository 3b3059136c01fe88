"""Closed dims of the residual stream out of a plain graph's products, by gathers, where the plan says that it pays.

A linear that reads fewer dims gets a Gather in front and a matrix without the closed rows. A linear that writes fewer
gives those and one column of zeros, and a Gather behind spreads them over the residual width, the closed dims all
pointing at the zeros. Both are exact.

ONNX keeps a linear's matrix as (inputs, outputs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from finegates_export.plan import ResidualPlan


def add_gathers(graph: Any, products: Mapping[str, str], sides: Sequence[ResidualPlan]) -> int:
    """Rewrite a plain graph in place.

    Args:
        graph: an `onnx_ir.Model` of plain operators.
        products: the product node of each linear, by the linear's path.
        sides: what the plan says of the linears' residual sides.

    Returns:
        How many gathers were added.
    """
    import onnx_ir.passes.common as passes

    nodes = {node.name: node for node in graph.graph}
    gathered = [side for side in sides if side.gathered]
    for side in gathered:
        node = nodes[products[side.linear]]
        rewrite = _gather_reads if side.side == "reads" else _spread_writes
        rewrite(graph.graph, node, side)
    if gathered:
        passes.RemoveUnusedNodesPass()(graph)
    return len(gathered)


def _gather_reads(graph: Any, node: Any, side: ResidualPlan) -> None:
    matrix = node.inputs[1].const_value.numpy()
    gather = _gather(graph, node.inputs[0], np.asarray(side.dims, np.int64), f"{node.name}_reads")
    graph.insert_before(node, gather)
    node.replace_input_with(0, gather.outputs[0])
    node.replace_input_with(1, _constant(graph, f"{side.linear}.narrow", matrix[list(side.dims)]))


def _spread_writes(graph: Any, node: Any, side: ResidualPlan) -> None:
    matrix = node.inputs[1].const_value.numpy()
    zeros = np.zeros((matrix.shape[0], 1), matrix.dtype)
    source = np.full(side.width, len(side.dims), np.int64)
    source[list(side.dims)] = np.arange(len(side.dims))
    node.replace_input_with(
        1, _constant(graph, f"{side.linear}.narrow", np.concatenate([matrix[:, list(side.dims)], zeros], axis=1))
    )
    output = node.outputs[0]
    shape, output.shape = output.shape, None  # the product is narrower now; nobody needs its static shape
    users = list(output.uses())
    gather = _gather(graph, output, source, f"{node.name}_writes")
    gather.outputs[0].shape = shape
    graph.insert_after(node, gather)
    for user, position in users:
        user.replace_input_with(position, gather.outputs[0])


def _gather(graph: Any, source: Any, dims: Any, name: str) -> Any:
    import onnx_ir

    index = _constant(graph, f"{name}.dims", dims)
    node = onnx_ir.node("Gather", [source, index], {"axis": -1}, name=name)
    node.outputs[0].name = f"{name}.output"
    node.outputs[0].dtype = source.dtype
    return node


def _constant(graph: Any, name: str, values: Any) -> Any:
    import onnx_ir

    value = onnx_ir.val(name, const_value=onnx_ir.tensor(np.ascontiguousarray(values), name=name))
    graph.initializers[name] = value
    return value
