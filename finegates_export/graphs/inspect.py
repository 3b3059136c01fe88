"""Counts what a graph holds: operators by class, products of quantized weights, and weights."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.common.tasks import HIDDEN
from finegates_export.graphs.values import name_of, weight_of

if TYPE_CHECKING:
    import onnx_ir

ATTENTION = ("Attention", "MultiHeadAttention", "GroupQueryAttention")
NORMALIZATION = ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "RMSNormalization")
ACTIVATION = ("Gelu", "BiasGelu", "FastGelu", "QuickGelu")
STANDARD = ("Attention", "RMSNormalization")
"""Those that are standard ONNX operators since opset 23."""
INTEGER_PRODUCTS = ("MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")
PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", *INTEGER_PRODUCTS)
BLOCKWISE_PRODUCT = "MatMulNBits"
CONTRIB_DOMAIN = "com.microsoft"
TAKEN_APART = "_apart_norm"
"""Suffix of the names of norms that were fused with the sum before them and split again; see `passes.split_norms`."""


@dataclass(frozen=True)
class GraphFacts:
    """Counts of one graph."""

    nodes: int
    fused: dict[str, int]
    """Fused nodes by class: attention, normalization, activation."""
    integer_products: int
    blockwise_products: int
    """Products that read a matrix packed in blocks of 4-bit weights."""
    parameters: int
    """Elements of all floating-point initializers that are not scalars."""
    encoder_weights: int
    """Elements of the constant matrices that the encoder's products multiply by."""
    half: bool
    """Whether weights are float16."""

    @property
    def exact(self) -> bool:
        """Whether the graph is held to the float32 tolerance."""
        return not (self.half or self.integer_products or self.blockwise_products)


def inspect_graph(graph: onnx_ir.Model) -> GraphFacts:
    """Count what is in a graph.

    If the graph still has the output `last_hidden_state`, the encoder is what that output depends on; a delivered graph
    without it counts as encoder as a whole.
    """
    operators: Counter[str] = Counter()
    weights: dict[str, int] = {}
    head = {id(node) for node in head_nodes(graph)}
    apart = sum(name_of(node).endswith(TAKEN_APART) for node in graph.graph)
    for node in graph.graph:
        if id(node) in head:
            continue
        if node.domain == CONTRIB_DOMAIN or node.op_type in (*INTEGER_PRODUCTS, *ACTIVATION, *STANDARD):
            operators[node.op_type] += 1
        if (matrix := constant_matrix(node)) is not None:
            weights[name_of(matrix)] = weight_of(matrix).size
        elif node.op_type == BLOCKWISE_PRODUCT and node.inputs[1] is not None:
            weights[name_of(node.inputs[1])] = node.attributes["K"].as_int() * node.attributes["N"].as_int()
    tensors = [weight_of(value) for value in graph.graph.initializers.values()]
    return GraphFacts(
        nodes=len(graph.graph),
        fused={
            "attention": sum(operators[name] for name in ATTENTION),
            "normalization": sum(operators[name] for name in NORMALIZATION) + apart,
            "activation": sum(operators[name] for name in ACTIVATION),
        },
        integer_products=sum(operators[name] for name in INTEGER_PRODUCTS) + sum(map(_between_integers, graph.graph)),
        blockwise_products=operators[BLOCKWISE_PRODUCT],
        parameters=sum(tensor.size for tensor in tensors if len(tensor.shape) and tensor.dtype.is_floating_point()),
        encoder_weights=sum(weights.values()),
        half=any(tensor.dtype.name == "FLOAT16" and len(tensor.shape) for tensor in tensors),
    )


def inspect_file(path: Path) -> GraphFacts:
    """Count what is in an ONNX file."""
    import onnx_ir

    return inspect_graph(onnx_ir.load(path))


def head_nodes(graph: onnx_ir.Model) -> list[onnx_ir.Node]:
    """The task head's nodes: those that the last hidden state does not depend on. Empty without that output."""
    hidden = next((output for output in graph.graph.outputs if output.name == HIDDEN), None)
    if hidden is None:
        return []
    needed: set[int] = set()
    waiting = [hidden.producer()]
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in needed:
            continue
        needed.add(id(node))
        waiting += [value.producer() for value in node.inputs if value is not None]
    return [node for node in graph.graph if id(node) not in needed]


def _between_integers(node: onnx_ir.Node) -> bool:
    """Whether a node multiplies freshly quantized tensors, which a runtime does in integers."""
    makers = [value.producer() for value in node.inputs if value is not None]
    return node.op_type == "MatMul" and all(maker and maker.op_type == "DequantizeLinear" for maker in makers)


def constant_matrix(node: onnx_ir.Node) -> onnx_ir.Value | None:
    """The constant matrix that a product multiplies by; None for any other node."""
    if node.op_type not in PRODUCTS and node.op_type != "Attention":
        return None
    matrix = node.inputs[1]
    if matrix is None or matrix.const_value is None or len(matrix.const_value.shape) != 2:
        return None
    return matrix
