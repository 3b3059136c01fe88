"""Closed dims of the residual stream out of a plain graph's products, by gathers, where the plan says that it pays.

A linear that reads fewer dims gets a gather in front and a matrix without the closed rows. A linear that writes fewer
gives those and one column of zeros, and a gather behind spreads them over the residual width, the closed dims all
pointing at the zeros. Both are exact.

The gather is spelled GatherElements. onnxruntime's Gather copies every element of the last axis by itself and costs
more than the smaller matrix saves; GatherElements runs down whole rows. It wants an index as large as its output: the
dims are added to a column of zeros that the graph makes once, for Add runs on all threads and Expand on one.

ONNX keeps a linear's matrix as (inputs, outputs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from finegates_export.graphs.rewrite import add_constant
from finegates_export.pruning.plan import ResidualPlan


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
    if gathered:
        zeros = _zero_per_token(graph.graph, nodes[products[gathered[0].linear]].inputs[0])
        for side in gathered:
            node = nodes[products[side.linear]]
            rewrite = _gather_reads if side.side == "reads" else _spread_writes
            rewrite(graph.graph, node, side, zeros)
        graph.graph.sort()
        passes.RemoveUnusedNodesPass()(graph)
    return len(gathered)


def _gather_reads(graph: Any, node: Any, side: ResidualPlan, zeros: Any) -> None:
    matrix = node.inputs[1].const_value.numpy()
    narrow = _gather(graph, node.inputs[0], np.asarray(side.dims, np.int32), zeros, f"{node.name}_reads")
    node.replace_input_with(0, narrow)
    node.replace_input_with(1, add_constant(graph, f"{side.linear}.narrow", matrix[list(side.dims)]))


def _spread_writes(graph: Any, node: Any, side: ResidualPlan, zeros: Any) -> None:
    matrix = node.inputs[1].const_value.numpy()
    zero_column = np.zeros((matrix.shape[0], 1), matrix.dtype)
    source = np.full(side.width, len(side.dims), np.int32)
    source[list(side.dims)] = np.arange(len(side.dims))
    node.replace_input_with(
        1,
        add_constant(graph, f"{side.linear}.narrow", np.concatenate([matrix[:, list(side.dims)], zero_column], axis=1)),
    )
    output = node.outputs[0]
    shape, output.shape = output.shape, None  # the product is narrower now; nobody needs its static shape
    users = list(output.uses())
    spread = _gather(graph, output, source, zeros, f"{node.name}_writes")
    spread.shape = shape
    for user, position in users:
        user.replace_input_with(position, spread)


def _zero_per_token(graph: Any, source: Any) -> Any:
    """Zeros of shape (B, S, 1), whatever B and S are at run time."""
    tokens = _add(graph, "Shape", [source], "gathers.tokens", {"start": 0, "end": -1})
    one = add_constant(graph, "gathers.one", np.ones(1, np.int64))
    shape = _add(graph, "Concat", [tokens, one], "gathers.shape", {"axis": 0})
    return _add(graph, "Expand", [add_constant(graph, "gathers.zero", np.zeros(1, np.int32)), shape], "gathers.zeros")


def _gather(graph: Any, source: Any, dims: Any, zeros: Any, name: str) -> Any:
    index = _add(graph, "Add", [zeros, add_constant(graph, f"{name}.dims", dims)], f"{name}.index")
    gathered = _add(graph, "GatherElements", [source, index], name, {"axis": -1})
    gathered.dtype = source.dtype
    return gathered


def _add(graph: Any, operator: str, inputs: list[Any], name: str, attributes: dict[str, int] | None = None) -> Any:
    """A node at the end of the graph, which is sorted afterwards; its output."""
    import onnx_ir

    node = onnx_ir.node(operator, inputs, attributes or {}, name=name)
    node.outputs[0].name = f"{name}.output"
    graph.append(node)
    return node.outputs[0]
