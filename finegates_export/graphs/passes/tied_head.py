"""Ties an LM head to the embedding table: the file holds one table, without its transposed copy.

The product becomes a Gemm that reads the table transposed. onnxruntime takes the same time for it (6 ms per token
either way with 49152 x 576 on one thread) and packs the same copy when it loads the graph. Its quantizer turns Gemms
back into products and writes the transposed table, so heads are tied after quantization, when a graph is finished.
"""

from __future__ import annotations

import numpy as np
import onnx_ir
from onnx_ir.passes import PassResult
from onnx_ir.passes.common import RemoveUnusedNodesPass

from finegates_export.errors import FusionError
from finegates_export.graphs.inspect import constant_matrix
from finegates_export.graphs.passes.graph_pass import GraphPass
from finegates_export.graphs.rewrite import add_constant, replace_node
from finegates_export.graphs.values import weight_of

HEAD = "lm_head"
FIRST_OPSET = 15
"""The first opset whose Shape can return some of the axes."""


class TieHead(GraphPass):
    """Multiply by the embedding table instead of its transposed copy."""

    def requires(self, model: onnx_ir.Model) -> None:
        """The opset has the operators of a tied head.

        Raises:
            FusionError: it is older.
        """
        opset = model.graph.opset_imports.get("", FIRST_OPSET)
        if opset < FIRST_OPSET:
            raise self.refusal(FusionError, f"the graph is of opset {opset}, and a tied head takes {FIRST_OPSET}")

    def call(self, model: onnx_ir.Model) -> PassResult:
        """Tie the first such product, as a model has one head."""
        tables = tables_of(model)
        for node in model.graph:
            table = turned_table(node, tables) if node.op_type == "MatMul" else None
            if table is not None:
                _multiply_by_table(model.graph, node, table)
                RemoveUnusedNodesPass()(model)
                return PassResult(model, modified=True)
        return PassResult(model, modified=False)

    def ensures(self, model: onnx_ir.Model) -> None:
        """A tied head reads the table in which the graph looks up tokens.

        Raises:
            FusionError: it reads something else.
        """
        head = next((node for node in model.graph if node.name == HEAD and node.op_type == "Gemm"), None)
        if head is not None and not any(head.inputs[1] is table for table in tables_of(model)):
            raise self.refusal(FusionError, "the tied head multiplies by no embedding table")


def tables_of(graph: onnx_ir.Model) -> list[onnx_ir.Value]:
    """The constant matrices in which a graph looks up rows."""
    looked_up = (node.inputs[0] for node in graph.graph if node.op_type == "Gather")
    return [
        one for one in looked_up if one is not None and one.const_value is not None and len(one.const_value.shape) == 2
    ]


def turned_table(node: onnx_ir.Node, tables: list[onnx_ir.Value]) -> onnx_ir.Value | None:
    """The table whose transpose a product multiplies by, transposed by a node or stored that way.

    Args:
        node: a product of two inputs.
        tables: see `tables_of`.

    Returns:
        None if it multiplies by none of them.
    """
    turned = node.inputs[1].producer() if node.inputs[1] is not None else None
    if turned is not None and turned.op_type == "Transpose":
        return next((one for one in tables if one is turned.inputs[0]), None)
    matrix = constant_matrix(node)
    return None if matrix is None else next((one for one in tables if _is_transposed(one, matrix)), None)


def _is_transposed(table: onnx_ir.Value, matrix: onnx_ir.Value) -> bool:
    looked_up, multiplied = weight_of(table), weight_of(matrix)
    if [*looked_up.shape] != [*multiplied.shape][::-1]:
        return False
    rows, columns = looked_up.numpy(), multiplied.numpy()
    return np.array_equal(rows[:, 0], columns[0]) and np.array_equal(rows, columns.T)


def _multiply_by_table(graph: onnx_ir.Graph, node: onnx_ir.Node, table: onnx_ir.Value) -> None:
    """(B, S, D) by the table of shape (V, D): all tokens as the rows of one matrix, as Gemm needs them."""
    words, width = weight_of(table).shape.numpy()
    tokens = onnx_ir.node("Shape", [node.inputs[0]], {"start": 0, "end": -1}, name=f"{HEAD}.tokens")
    sizes = {"flat": [-1, width], "words": [words]}
    constants = {
        name: add_constant(graph, f"{HEAD}.{name}", np.asarray(size, np.int64)) for name, size in sizes.items()
    }
    flat = onnx_ir.node("Reshape", [node.inputs[0], constants["flat"]], name=f"{HEAD}.rows")
    product = onnx_ir.node("Gemm", [flat.outputs[0], table], {"transB": 1}, name=HEAD)
    shape = onnx_ir.node("Concat", [tokens.outputs[0], constants["words"]], {"axis": 0}, name=f"{HEAD}.shape")
    result = onnx_ir.node("Reshape", [product.outputs[0], shape.outputs[0]], name=f"{HEAD}.logits")
    replace_node(graph, node, [tokens, flat, product, shape, result])
