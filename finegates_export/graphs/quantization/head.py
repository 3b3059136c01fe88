"""Quantizes an LM head to int8, with a scale for each token and dynamic inputs, as in the layers' linears.

Every generated token reads the head, the largest matrix of a small model with a large vocabulary. If it is also the
embedding table, the file holds it once, in int8, and tokens are looked up in its columns.

Letters: B batch, S sequence, D hidden size, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import onnx_ir
from onnx_ir.passes import PassResult
from onnx_ir.passes.common import RemoveUnusedNodesPass

from finegates_export.common.graph_forms import FULL_BITS
from finegates_export.common.tasks import LOGITS
from finegates_export.errors import ChainError
from finegates_export.graphs.inspect import constant_matrix
from finegates_export.graphs.passes.graph_pass import GraphPass, run_passes
from finegates_export.graphs.passes.tied_head import HEAD, tables_of, turned_table
from finegates_export.graphs.rewrite import add_constant, replace_node
from finegates_export.graphs.values import VERSIONS, weight_of


def quantize_head(graph: onnx_ir.Model, bits: int = FULL_BITS) -> None:
    """Rewrite a decoder's plain graph in place, before its head is tied; see `QuantizeHead`.

    Args:
        graph: changed in place.
        bits: of a weight, 7 or 8; see `int8`.

    Raises:
        ChainError: the logits are not a product by a constant matrix.
    """
    run_passes(graph, [QuantizeHead(bits)])


class QuantizeHead(GraphPass):
    """Multiply by an int8 head, and look tokens up in it if it is also the embedding table.

    Args:
        bits: of a weight, 7 or 8.
    """

    def __init__(self, bits: int = FULL_BITS) -> None:
        self.most = 2 ** (bits - 1) - 1
        """Largest magnitude of a weight; one more is unused, so that both signs have the same steps."""

    def requires(self, model: onnx_ir.Model) -> None:
        """The logits are a product by a constant matrix.

        Raises:
            ChainError: they are not.
        """
        product = _product(model)
        if product is None or (turned_table(product, tables_of(model)) is None and constant_matrix(product) is None):
            raise self.refusal(ChainError, f"the graph has no product that makes its logits; {VERSIONS}")

    def call(self, model: onnx_ir.Model) -> PassResult:
        """Quantize."""
        product = _product(model)
        if product is None:
            return PassResult(model, modified=False)
        table = turned_table(product, tables_of(model))
        weight_DV = weight_of(product.inputs[1]).numpy() if table is None else weight_of(table).numpy().T
        scale_V = np.abs(weight_DV).max(axis=0) / self.most
        scale_V[scale_V == 0] = 1.0
        rounded_DV = np.rint(weight_DV / scale_V).astype(np.int8)
        weights = {"weight": rounded_DV, "scale": scale_V.astype(np.float32)}
        constants = {name: add_constant(model.graph, f"{HEAD}.{name}", values) for name, values in weights.items()}
        _multiply(model.graph, product, constants)
        for lookup in [] if table is None else [use.node for use in table.uses() if use.node.op_type == "Gather"]:
            _look_up(model.graph, lookup, constants)
        RemoveUnusedNodesPass()(model)
        return PassResult(model, modified=True)

    def ensures(self, model: onnx_ir.Model) -> None:
        """The head is an integer product.

        Raises:
            ChainError: it is not.
        """
        if not any(node.op_type == "MatMulInteger" and node.name == f"{HEAD}.product" for node in model.graph):
            raise self.refusal(ChainError, "the head is no integer product")


def _product(graph: onnx_ir.Model) -> onnx_ir.Node | None:
    """The node that computes the logits."""
    logits = next((output for output in graph.graph.outputs if output.name == LOGITS), None)
    return None if logits is None else logits.producer()


def _multiply(graph: onnx_ir.Graph, product: onnx_ir.Node, constants: dict[str, onnx_ir.Value]) -> None:
    """The pattern that onnxruntime fuses into one operator: dynamic inputs, an integer product, two scales."""
    rounded = onnx_ir.node("DynamicQuantizeLinear", [product.inputs[0]], num_outputs=3, name=f"{HEAD}.rounded")
    x, x_scale, x_zero = rounded.outputs
    integers = onnx_ir.node("MatMulInteger", [x, constants["weight"], x_zero], name=f"{HEAD}.product")
    floats = onnx_ir.node("Cast", [integers.outputs[0]], {"to": onnx_ir.DataType.FLOAT}, name=f"{HEAD}.floats")
    scales = onnx_ir.node("Mul", [x_scale, constants["scale"]], name=f"{HEAD}.scales")
    result = onnx_ir.node("Mul", [floats.outputs[0], scales.outputs[0]], name=f"{HEAD}.logits")
    replace_node(graph, product, [rounded, integers, floats, scales, result])


def _look_up(graph: onnx_ir.Graph, lookup: onnx_ir.Node, constants: dict[str, onnx_ir.Value]) -> None:
    """Columns of the matrix as rows of the table, each multiplied by its token's scale."""
    name, ids_BS = lookup.name, lookup.inputs[1]
    columns = onnx_ir.node("Gather", [constants["weight"], ids_BS], {"axis": 1}, name=f"{name}.columns")
    rows = onnx_ir.node("Transpose", [columns.outputs[0]], {"perm": [1, 2, 0]}, name=f"{name}.rows")
    floats = onnx_ir.node("Cast", [rows.outputs[0]], {"to": onnx_ir.DataType.FLOAT}, name=f"{name}.floats")
    scales = onnx_ir.node("Gather", [constants["scale"], ids_BS], name=f"{name}.scales")
    last = add_constant(graph, f"{name}.last", np.asarray([-1], np.int64))
    each = onnx_ir.node("Unsqueeze", [scales.outputs[0], last], name=f"{name}.each")
    result = onnx_ir.node("Mul", [floats.outputs[0], each.outputs[0]], name=f"{name}.embedded")
    replace_node(graph, lookup, [columns, rows, floats, scales, each, result])
