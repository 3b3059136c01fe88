"""A residual sum and the norm behind it as one SkipLayerNormalization, in pre-norm layers too.

onnxscript's own fusion wants a norm with a bias and a sum that nothing else reads. In a pre-norm layer the sum is the
residual stream, read again by the next sublayer, and ModernBERT's norms have no bias. onnxruntime's kernel takes both:
its fourth output is the sum, its beta is optional (contrib operator SkipLayerNormalization).
"""

from __future__ import annotations

from typing import Any

RANK = 3
"""The kernel takes (batch, sequence, width)."""


def fuse_skip_normalization(graph: Any) -> int:
    """Rewrite an `onnx_ir.Model` in place.

    Returns:
        How many norms were fused with the sum in front of them.
    """
    norms = [node for node in graph.graph if node.op_type == "LayerNormalization" and node.domain == ""]
    return sum(_fuse(graph.graph, norm) for norm in norms)


def _fuse(graph: Any, norm: Any) -> bool:
    import onnx_ir

    total = norm.inputs[0]
    add = total.producer()
    if add is None or add.op_type != "Add" or total.is_graph_output() or not _is_residual_sum(add, norm):
        return False
    gamma, beta = norm.inputs[1], norm.inputs[2] if len(norm.inputs) > 2 else None
    epsilon = norm.attributes["epsilon"].as_float() if "epsilon" in norm.attributes else 1e-5
    fused = onnx_ir.node(
        "SkipLayerNormalization",
        [*add.inputs, gamma, *([beta] if beta is not None else [])],
        {"epsilon": epsilon},
        domain="com.microsoft",
        num_outputs=4,
        name=f"{norm.name}_skip",
    )
    for new, old in ((fused.outputs[0], norm.outputs[0]), (fused.outputs[3], total)):
        new.shape, new.dtype, new.type = old.shape, old.dtype, old.type
    fused.outputs[0].name, fused.outputs[3].name = norm.outputs[0].name, total.name
    fused.outputs[1].name = fused.outputs[2].name = ""
    graph.insert_after(add, fused)
    for old, new in ((norm.outputs[0], fused.outputs[0]), (total, fused.outputs[3])):
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove([norm], safe=True)
    graph.remove([add], safe=True)
    return True


def _is_residual_sum(add: Any, norm: Any) -> bool:
    """Whether two tensors of one shape are added, and normed over their last axis."""
    one, other = add.inputs
    constant = one.const_value is not None or other.const_value is not None
    shapes = (one.shape, other.shape)
    if constant or any(shape is None or len(shape) != RANK for shape in shapes) or shapes[0] != shapes[1]:
        return False
    axis = norm.attributes["axis"].as_int() if "axis" in norm.attributes else -1
    return axis in (-1, RANK - 1) and not any(output.uses() for output in norm.outputs[1:])
