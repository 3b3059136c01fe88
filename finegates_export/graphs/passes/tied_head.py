"""An LM head whose matrix is the embedding table: one table in the file, not the table and its transposed copy.

The product becomes a Gemm that reads the table the other way round. onnxruntime takes the same time for it (6 ms a
token either way with 49152 x 576 on one thread) and packs the same copy for itself when it loads. Its quantizer makes
products of Gemms again and writes the table turned, so heads are tied when a graph is finished, behind it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from finegates_export.graphs.inspect import constant_matrix
from finegates_export.graphs.rewrite import add_constant, replace_node

HEAD = "lm_head"


def tie_head(graph: Any) -> bool:
    """Rewrite a plain graph in place.

    Args:
        graph: an `onnx_ir.Model` of plain operators.

    Returns:
        Whether there was a product by the transposed table.
    """
    import onnx_ir.passes.common as passes

    tables = tables_of(graph)
    for node in graph.graph:
        table = turned_table(node, tables) if node.op_type == "MatMul" else None
        if table is not None:
            _multiply_by_table(graph.graph, node, table)
            passes.RemoveUnusedNodesPass()(graph)
            return True
    return False


def tables_of(graph: Any) -> list[Any]:
    """The constant matrices in which a graph looks up rows."""
    return [node.inputs[0] for node in graph.graph if node.op_type == "Gather" and _is_table(node.inputs[0])]


def _is_table(value: Any) -> bool:
    return value is not None and value.const_value is not None and len(value.const_value.shape) == 2


def turned_table(node: Any, tables: list[Any]) -> Any:
    """The table that a product multiplies by the other way round: still turned by a node, or turned already.

    Args:
        node: a product of two inputs.
        tables: see `tables_of`.

    Returns:
        None where it multiplies by none of them.
    """
    turned = node.inputs[1].producer() if node.inputs[1] is not None else None
    if turned is not None and turned.op_type == "Transpose":
        return next((one for one in tables if one is turned.inputs[0]), None)
    matrix = constant_matrix(node)
    return None if matrix is None else next((one for one in tables if _is_transposed(one, matrix)), None)


def _is_transposed(table: Any, matrix: Any) -> bool:
    if [*table.const_value.shape] != [*matrix.const_value.shape][::-1]:
        return False
    rows, columns = table.const_value.numpy(), matrix.const_value.numpy()
    return np.array_equal(rows[:, 0], columns[0]) and np.array_equal(rows, columns.T)


def _multiply_by_table(graph: Any, node: Any, table: Any) -> None:
    """(B, S, D) by the table of shape (V, D): tokens in one row after the other, as Gemm takes them."""
    import onnx_ir

    words, width = table.const_value.shape
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
