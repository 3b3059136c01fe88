"""Unpacks attention into separate products where that is faster; see `packing`."""

from __future__ import annotations

import numpy as np
import onnx_ir
from onnx_ir.passes import PassResult
from onnx_ir.passes.common import RemoveUnusedNodesPass

from finegates_export.errors import FusionError
from finegates_export.graphs.inspect import CONTRIB_DOMAIN
from finegates_export.graphs.passes.graph_pass import GraphPass
from finegates_export.graphs.passes.packing import packs_well
from finegates_export.graphs.rewrite import add_constant, replace_node
from finegates_export.graphs.values import present, weight_of


class UnpackAttention(GraphPass):
    """Unpack attention whose heads do not fill whole strips."""

    def call(self, model: onnx_ir.Model) -> PassResult:
        """Unpack."""
        nodes = [node for node in model.graph if _is_slow(node)]
        for node in nodes:
            _unpack(model.graph, node)
        RemoveUnusedNodesPass()(model)  # the packed matrices
        return PassResult(model, bool(nodes))

    def ensures(self, model: onnx_ir.Model) -> None:
        """No attention that is slower packed is left.

        Raises:
            FusionError: one is.
        """
        left = next((node for node in model.graph if _is_slow(node)), None)
        if left is not None:
            raise self.refusal(FusionError, f"{left.name} is still packed")


def _is_slow(node: onnx_ir.Node) -> bool:
    """Whether a node is attention that is slower packed, and can be unpacked."""
    if node.op_type != "Attention" or node.domain != CONTRIB_DOMAIN:
        return False
    _x, matrix, bias, mask, past, _scores_bias = (*node.inputs, None, None, None, None)[:6]
    constant = all(value is not None and value.const_value is not None for value in (matrix, bias))
    if not constant or mask is not None or past is not None:
        return False  # nothing that is exported has either
    heads = node.attributes["num_heads"].as_int()
    return not all(packs_well(heads, size // heads) for size in _sizes(node))


def _sizes(node: onnx_ir.Node) -> list[int]:
    """Columns of Q, K and V in the packed matrix."""
    sizes = node.attributes["qkv_hidden_sizes"].as_ints() if "qkv_hidden_sizes" in node.attributes else ()
    return [*sizes] or [weight_of(node.inputs[2]).size // 3] * 3


def _unpack(graph: onnx_ir.Graph, node: onnx_ir.Node) -> None:
    x, scores_bias = present(node.inputs[0]), (*node.inputs, None, None, None)[5]
    matrix, vector = (weight_of(value).numpy() for value in node.inputs[1:3])
    sizes = _sizes(node)
    bounds = np.cumsum(sizes)[:-1]
    made, projected = [], []
    for word, part, offset in zip(
        ("query", "key", "value"), np.split(matrix, bounds, axis=1), np.split(vector, bounds), strict=True
    ):
        name = f"{node.name}_{word}"
        weight, shift = (
            add_constant(graph, f"{name}.{kind}", values) for kind, values in (("weight", part), ("bias", offset))
        )
        product = onnx_ir.node("MatMul", [x, weight], name=name)
        total = onnx_ir.node("Add", [product.outputs[0], shift], name=f"{name}_bias")
        for one in (product, total):
            one.outputs[0].name, one.outputs[0].type = f"{one.name}.output", x.type
        made += [product, total]
        projected.append(total.outputs[0])
    kept = {name: node.attributes[name] for name in ("num_heads", "scale") if name in node.attributes}
    apart = onnx_ir.node(
        "MultiHeadAttention",
        [*projected, None, None, scores_bias],
        {name: attribute.value for name, attribute in kept.items()},
        domain=CONTRIB_DOMAIN,
        name=f"{node.name}_apart",
    )
    replace_node(graph, node, [*made, apart])
