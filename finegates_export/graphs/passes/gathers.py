"""Removes closed dims of the residual stream from a plain graph's products, by gathers, where the plan says so.

A linear that reads fewer dims gets a gather before it and a matrix without the closed rows. A linear that writes fewer
outputs those and one column of zeros, and a gather after it spreads them over the residual width, with every closed dim
taken from the zeros. Both are exact.

The gather is spelled GatherElements. onnxruntime's Gather copies every element of the last axis by itself and costs
more than the smaller matrix saves; GatherElements runs down whole rows. It wants an index as large as its output: the
dims are added to a column of zeros that the graph makes once, for Add runs on all threads and Expand on one.

ONNX keeps a linear's matrix as (inputs, outputs).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir
from onnx_ir.passes import PassResult
from onnx_ir.passes.common import RemoveUnusedNodesPass

from finegates_export.errors import ChainError
from finegates_export.graphs.inspect import constant_matrix
from finegates_export.graphs.passes.graph_pass import GraphPass, run_passes
from finegates_export.graphs.rewrite import add_constant
from finegates_export.graphs.values import present, weight_of
from finegates_export.pruning.plan import ResidualPlan


def add_gathers(graph: onnx_ir.Model, products: Mapping[str, str], sides: Sequence[ResidualPlan]) -> None:
    """Rewrite a plain graph in place; see `AddGathers`.

    Raises:
        ChainError: a gathered linear has no product of the plan's width.
    """
    run_passes(graph, [AddGathers(products, sides)])


class AddGathers(GraphPass):
    """Gather before linears that read only some dims of the residual stream, and after those that write only some.

    Args:
        products: the product node of each linear, by the linear's path.
        sides: what the plan says of the linears' residual sides.
    """

    def __init__(self, products: Mapping[str, str], sides: Sequence[ResidualPlan]) -> None:
        self.products = products
        self.gathered = [side for side in sides if side.gathered]

    def requires(self, model: onnx_ir.Model) -> None:
        """Each gathered linear is a MatMul by a matrix as wide as the residual stream.

        Raises:
            ChainError: one is not.
        """
        nodes = {node.name: node for node in model.graph}
        for side in self.gathered:
            node = nodes.get(self.products.get(side.linear))
            matrix = constant_matrix(node) if node is not None and node.op_type == "MatMul" else None
            width = None if matrix is None else weight_of(matrix).shape[0 if side.side == "reads" else 1]
            if width != side.width:
                told = "no such product" if width is None else f"a product that has {width}"
                raise self.refusal(
                    ChainError,
                    f"{side.linear} {side.side} {side.width} dims by the plan, and the graph has {told}; nothing was "
                    "written. This is a defect, please report it with the run",
                )

    def call(self, model: onnx_ir.Model) -> PassResult:
        """Add the gathers."""
        if not self.gathered:
            return PassResult(model, modified=False)
        nodes = {node.name: node for node in model.graph}
        zeros = _zero_per_token(model.graph, nodes[self.products[self.gathered[0].linear]].inputs[0])
        for side in self.gathered:
            rewrite = _gather_reads if side.side == "reads" else _spread_writes
            rewrite(model.graph, nodes[self.products[side.linear]], side, zeros)
        model.graph.sort()
        RemoveUnusedNodesPass()(model)
        return PassResult(model, modified=True)

    def ensures(self, model: onnx_ir.Model) -> None:
        """Each gathered linear multiplies by as many dims as it reads, or writes, column of zeros included.

        Raises:
            ChainError: one does not.
        """
        nodes = {node.name: node for node in model.graph}
        for side in self.gathered:
            shape = weight_of(nodes[self.products[side.linear]].inputs[1]).shape
            found, wanted = (shape[0], len(side.dims)) if side.side == "reads" else (shape[1], len(side.dims) + 1)
            if found != wanted:
                raise self.refusal(ChainError, f"{side.linear} {side.side} {found} dims after its gather, not {wanted}")


def _gather_reads(graph: onnx_ir.Graph, node: onnx_ir.Node, side: ResidualPlan, zeros: onnx_ir.Value) -> None:
    matrix = weight_of(node.inputs[1]).numpy()
    narrow = _gather(graph, present(node.inputs[0]), np.asarray(side.dims, np.int32), zeros, f"{node.name}_reads")
    node.replace_input_with(0, narrow)
    node.replace_input_with(1, add_constant(graph, f"{side.linear}.narrow", matrix[list(side.dims)]))


def _spread_writes(graph: onnx_ir.Graph, node: onnx_ir.Node, side: ResidualPlan, zeros: onnx_ir.Value) -> None:
    matrix = weight_of(node.inputs[1]).numpy()
    zero_column = np.zeros((matrix.shape[0], 1), matrix.dtype)
    source = np.full(side.width, len(side.dims), np.int32)
    source[list(side.dims)] = np.arange(len(side.dims))
    node.replace_input_with(
        1,
        add_constant(graph, f"{side.linear}.narrow", np.concatenate([matrix[:, list(side.dims)], zero_column], axis=1)),
    )
    output = node.outputs[0]
    shape, output.shape = output.shape, None  # the product is narrower now, and nothing needs its static shape
    users = list(output.uses())
    spread = _gather(graph, output, source, zeros, f"{node.name}_writes")
    spread.shape = shape
    for user, position in users:
        user.replace_input_with(position, spread)


def _zero_per_token(graph: onnx_ir.Graph, source: onnx_ir.Value | None) -> onnx_ir.Value:
    """Zeros of shape (B, S, 1), whatever B and S are at run time."""
    tokens = _add(graph, "Shape", [source], "gathers.tokens", {"start": 0, "end": -1})
    one = add_constant(graph, "gathers.one", np.ones(1, np.int64))
    shape = _add(graph, "Concat", [tokens, one], "gathers.shape", {"axis": 0})
    return _add(graph, "Expand", [add_constant(graph, "gathers.zero", np.zeros(1, np.int32)), shape], "gathers.zeros")


def _gather(
    graph: onnx_ir.Graph, source: onnx_ir.Value, dims: npt.NDArray[np.int32], zeros: onnx_ir.Value, name: str
) -> onnx_ir.Value:
    index = _add(graph, "Add", [zeros, add_constant(graph, f"{name}.dims", dims)], f"{name}.index")
    gathered = _add(graph, "GatherElements", [source, index], name, {"axis": -1})
    gathered.type = source.type
    return gathered


def _add(
    graph: onnx_ir.Graph,
    operator: str,
    inputs: Sequence[onnx_ir.Value | None],
    name: str,
    attributes: dict[str, int] | None = None,
) -> onnx_ir.Value:
    """Append a node, to be sorted in later, and return its output."""
    node = onnx_ir.node(operator, inputs, attributes or {}, name=name)
    node.outputs[0].name = f"{name}.output"
    graph.append(node)
    return node.outputs[0]
