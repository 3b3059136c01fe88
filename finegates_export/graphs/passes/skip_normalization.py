"""Fuses a residual sum and the norm after it into one SkipLayerNormalization, in pre-norm layers too.

onnxscript's own fusion requires a norm with a bias and a sum that nothing else reads. In a pre-norm layer the sum is
the residual stream, which the next sublayer reads again, and ModernBERT's norms have no bias. onnxruntime's kernel
takes both: its fourth output is the sum, its beta is optional (contrib operator SkipLayerNormalization).
"""

from __future__ import annotations

import onnx_ir
from onnx_ir.passes import PassResult

from finegates_export.errors import FusionError
from finegates_export.graphs.inspect import CONTRIB_DOMAIN
from finegates_export.graphs.passes.graph_pass import GraphPass

RANK = 3
"""The kernel takes (batch, sequence, width)."""
EPSILON = 1e-5
"""LayerNormalization's own default."""


class FuseSkipNormalization(GraphPass):
    """Fuse each residual sum with the norm after it."""

    def call(self, model: onnx_ir.Model) -> PassResult:
        """Fuse."""
        modified = False
        for norm in [node for node in model.graph if node.op_type == "LayerNormalization"]:
            add = _sum_before(norm)  # if two norms read one sum, the first is fused
            if add is not None:
                _fuse(model.graph, norm, add)
                modified = True
        return PassResult(model, modified)

    def ensures(self, model: onnx_ir.Model) -> None:
        """No norm that can be fused is left.

        Raises:
            FusionError: one is.
        """
        left = next((node for node in model.graph if _sum_before(node) is not None), None)
        if left is not None:
            raise self.refusal(FusionError, f"{left.name} is still a norm after a residual sum")


def _sum_before(norm: onnx_ir.Node) -> onnx_ir.Node | None:
    """The residual sum that a norm reads, if the two can be fused; else None."""
    total = norm.inputs[0] if norm.op_type == "LayerNormalization" and norm.domain == "" else None
    add = total.producer() if total is not None else None
    if total is None or add is None or add.op_type != "Add" or total.is_graph_output():
        return None
    return add if _is_residual_sum(add, norm) else None


def _fuse(graph: onnx_ir.Graph, norm: onnx_ir.Node, add: onnx_ir.Node) -> None:
    total = add.outputs[0]
    gamma, beta = norm.inputs[1], norm.inputs[2] if len(norm.inputs) > 2 else None
    epsilon = norm.attributes["epsilon"].as_float() if "epsilon" in norm.attributes else EPSILON
    fused = onnx_ir.node(
        "SkipLayerNormalization",
        [*add.inputs, gamma, *([beta] if beta is not None else [])],
        {"epsilon": epsilon},
        domain=CONTRIB_DOMAIN,
        num_outputs=4,
        name=f"{norm.name}_skip",
    )
    for new, old in ((fused.outputs[0], norm.outputs[0]), (fused.outputs[3], total)):
        new.shape, new.type = old.shape, old.type
    fused.outputs[0].name, fused.outputs[3].name = norm.outputs[0].name, total.name
    fused.outputs[1].name = fused.outputs[2].name = ""
    graph.insert_after(add, fused)
    for old, new in ((norm.outputs[0], fused.outputs[0]), (total, fused.outputs[3])):
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove([norm], safe=True)
    graph.remove([add], safe=True)


def _is_residual_sum(add: onnx_ir.Node, norm: onnx_ir.Node) -> bool:
    """Whether two tensors of one shape are added, and normalised over their last axis."""
    one, other = add.inputs
    if one is None or other is None or one.const_value is not None or other.const_value is not None:
        return False
    shapes = (one.shape, other.shape)
    if any(shape is None or len(shape) != RANK for shape in shapes) or shapes[0] != shapes[1]:
        return False
    axis = norm.attributes["axis"].as_int() if "axis" in norm.attributes else -1
    return axis in (-1, RANK - 1) and not any(output.uses() for output in norm.outputs[1:])
