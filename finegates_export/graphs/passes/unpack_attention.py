"""Packed attention back into products of its own where that is the faster way; see `packing`."""

from __future__ import annotations

from typing import Any

import numpy as np

from finegates_export.graphs.inspect import CONTRIB_DOMAIN
from finegates_export.graphs.passes.packing import packs_well
from finegates_export.graphs.rewrite import add_constant, replace_node


def unpack_attention(graph: Any) -> int:
    """Rewrite an `onnx_ir.Model` in place.

    Returns:
        How many packed operators were taken apart.
    """
    import onnx_ir.passes.common as passes

    nodes = [node for node in graph.graph if node.op_type == "Attention" and node.domain == CONTRIB_DOMAIN]
    unpacked = sum(_unpack(graph.graph, node) for node in nodes)
    passes.RemoveUnusedNodesPass()(graph)  # the packed matrices
    return unpacked


def _unpack(graph: Any, node: Any) -> bool:
    import onnx_ir

    heads = node.attributes["num_heads"].as_int()
    x, matrix, bias, mask, past, scores_bias = (*node.inputs, None, None, None, None)[:6]
    constant = all(value is not None and value.const_value is not None for value in (matrix, bias))
    if not constant or mask is not None or past is not None:
        return False  # nothing that is exported has either
    columns, vector = matrix.const_value.numpy(), bias.const_value.numpy()
    sizes = node.attributes["qkv_hidden_sizes"].as_ints() if "qkv_hidden_sizes" in node.attributes else ()
    sizes = sizes or [len(vector) // 3] * 3
    if all(packs_well(heads, size // heads) for size in sizes):
        return False
    bounds = np.cumsum(sizes)[:-1]
    made, projected = [], []
    for word, part, offset in zip(
        ("query", "key", "value"), np.split(columns, bounds, axis=1), np.split(vector, bounds), strict=True
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
    return True
