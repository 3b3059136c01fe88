"""Unpacks attention into separate products where that is faster (see `packing`), or where they are integer products.

Fusion packs Q, K and V of equal widths. Of int8 weights it packs what DequantizeLinear gives, behind a Concat: the
packed product would be in float, and its matrix joined anew in every run.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir
from onnx_ir.passes import PassResult
from onnx_ir.passes.common import RemoveUnusedNodesPass

from finegates_export.errors import FusionError
from finegates_export.graphs.inspect import CONTRIB_DOMAIN
from finegates_export.graphs.passes.graph_pass import GraphPass
from finegates_export.graphs.passes.packing import packs_well
from finegates_export.graphs.rewrite import add_constant, replace_node
from finegates_export.graphs.values import present, weight_of

WORDS = ("query", "key", "value")


class UnpackAttention(GraphPass):
    """Unpack attention whose heads do not fill whole strips, or whose matrix is joined in the graph."""

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
    if bias is None or bias.const_value is None or mask is not None or past is not None:
        return False  # nothing that is exported has a mask or a past there
    if _joined(node):
        return True
    if matrix is None or matrix.const_value is None:
        return False
    heads = node.attributes["num_heads"].as_int()
    return not all(packs_well(heads, size // heads) for size in _sizes(node))


def _sizes(node: onnx_ir.Node) -> list[int]:
    """Columns of Q, K and V in the packed matrix."""
    sizes = node.attributes["qkv_hidden_sizes"].as_ints() if "qkv_hidden_sizes" in node.attributes else ()
    return [*sizes] or [weight_of(node.inputs[2]).size // 3] * 3


def _joined(node: onnx_ir.Node) -> tuple[onnx_ir.Value, ...]:
    """The matrices of Q, K and V where the graph joins them itself; empty where it does not."""
    maker = present(node.inputs[1]).producer()
    if maker is None or maker.op_type != "Concat" or len(maker.inputs) != len(WORDS):
        return ()
    return tuple(map(present, maker.inputs))


def _matrices(graph: onnx_ir.Graph, node: onnx_ir.Node, bounds: npt.NDArray[np.int64]) -> tuple[onnx_ir.Value, ...]:
    """The matrices of Q, K and V: those that the graph joins, or the parts of a constant one."""
    if joined := _joined(node):
        return joined
    parts = np.split(weight_of(node.inputs[1]).numpy(), bounds, axis=1)
    return tuple(
        add_constant(graph, f"{node.name}_{word}.weight", part) for word, part in zip(WORDS, parts, strict=True)
    )


def _unpack(graph: onnx_ir.Graph, node: onnx_ir.Node) -> None:
    x, scores_bias = present(node.inputs[0]), (*node.inputs, None, None, None)[5]
    bounds = np.cumsum(_sizes(node))[:-1]
    offsets = np.split(weight_of(node.inputs[2]).numpy(), bounds)
    made, projected = [], []
    for word, weight, offset in zip(WORDS, _matrices(graph, node, bounds), offsets, strict=True):
        name = f"{node.name}_{word}"
        shift = add_constant(graph, f"{name}.bias", offset)
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
