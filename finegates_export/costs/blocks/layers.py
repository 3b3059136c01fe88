"""The halves of a layer for onnxruntime, with the operators of an exported and fused graph.

Letters of the comments: B batch, S sequence, D residual width, h heads, q Q/K width, v V/O width, P relative positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from finegates_export.costs.blocks.attention import ATTENTION, free_axes
from finegates_export.costs.blocks.block_graph import BlockGraph
from finegates_export.costs.blocks.layer_shapes import AttentionShape, FeedForwardShape

if TYPE_CHECKING:
    from onnx_ir import Value

Activate = Callable[[BlockGraph, "Value", str], "Value"]


def attention_graph(shape: AttentionShape, opset: int, seed: int) -> bytes:
    """A graph of `shape.copies` attention halves in a row.

    Args:
        shape: the half.
        opset: ONNX opset version.
        seed: seed of the weights.

    Returns:
        An ONNX file; its inputs are `shape.feeds`, its output is the first number of the result.
    """
    graph = BlockGraph("attention", opset, seed)
    given = {name: graph.input(name, free_axes(name, dims)) for name, dims in shape.feeds.items()}
    x = given["x"]
    attend = ATTENTION[shape.style](graph, shape, given) if shape.heads else None
    for copy in range(shape.copies):
        name = f"layer{copy}"
        if attend is None:
            x = _constant_half(graph, x, shape.hidden, name, biased=shape.biased)
            continue
        product = graph.linear(attend(x, name), shape.heads * shape.vo, shape.hidden, f"{name}.output", biased=False)
        x = graph.residual_norm(product, x, shape.hidden, f"{name}.norm", biased=shape.biased, inner_bias=shape.biased)
    graph.first_number(x, "first")
    return graph.to_bytes()


def feed_forward_graph(shape: FeedForwardShape, opset: int, seed: int) -> bytes:
    """A graph of `shape.copies` feed-forward halves in a row; see `attention_graph`."""
    graph = BlockGraph("feed-forward", opset, seed)
    x = graph.input("x", ["batch", "sequence", shape.hidden])
    for copy in range(shape.copies):
        name = f"layer{copy}"
        if not shape.neurons:
            x = _constant_half(graph, x, shape.hidden, name, biased=shape.biased)
            continue
        neurons = _neurons(graph, shape, x, name)
        product = graph.linear(neurons, shape.neurons, shape.hidden, f"{name}.down", biased=False)
        x = graph.residual_norm(product, x, shape.hidden, f"{name}.norm", biased=shape.biased, inner_bias=shape.biased)
    graph.first_number(x, "first")
    return graph.to_bytes()


def _constant_half(graph: BlockGraph, x: Value, width: int, name: str, *, biased: bool) -> Value:
    """The replacement of an empty half: the folded bias at every position."""
    tokens = graph.add("Shape", [x], f"{name}.tokens")
    constant = graph.add("Expand", [graph.weights(f"{name}.constant", width), tokens], f"{name}.expand")
    return graph.residual_norm(x, constant, width, f"{name}.norm", biased=biased, inner_bias=False)


def _neurons(graph: BlockGraph, shape: FeedForwardShape, x: Value, name: str) -> Value:
    """The activated neurons, multiplied by their factor if there is one."""
    if not shape.gated:
        if shape.activation == "gelu" and shape.biased:
            product = graph.linear(x, shape.hidden, shape.neurons, f"{name}.up", biased=False)
            bias = graph.weights(f"{name}.up.bias", shape.neurons)
            return graph.add("BiasGelu", [product, bias], f"{name}.activation", contrib=True)
        product = graph.linear(x, shape.hidden, shape.neurons, f"{name}.up", biased=shape.biased)
        return _ACTIVATIONS[shape.activation](graph, product, f"{name}.activation")
    both = graph.linear(x, shape.hidden, 2 * shape.neurons, f"{name}.up", biased=shape.biased)
    up, factor = graph.split([both], 2, f"{name}.split", axis=2, num_outputs=2)
    activated = _ACTIVATIONS[shape.activation](graph, up, f"{name}.activation")
    return graph.add("Mul", [activated, factor], f"{name}.product")


def _one(operator: str, *, contrib: bool = False, **attributes: str) -> Activate:
    return lambda graph, x, name: graph.add(operator, [x], name, contrib=contrib, **attributes)


def _silu(graph: BlockGraph, x: Value, name: str) -> Value:
    return graph.add("Mul", [x, graph.add("Sigmoid", [x], f"{name}.sigmoid")], name)


def _quick_gelu(graph: BlockGraph, x: Value, name: str) -> Value:
    scaled = graph.add("Mul", [x, graph.constant(f"{name}.factor", np.float32(1.702))], f"{name}.scaled")
    return graph.add("Mul", [x, graph.add("Sigmoid", [scaled], f"{name}.sigmoid")], name)


_ACTIVATIONS: dict[str, Activate] = {
    "gelu": _one("Gelu", contrib=True),
    "gelu_pytorch_tanh": _one("Gelu", approximate="tanh"),
    "relu": _one("Relu"),
    "tanh": _one("Tanh"),
    "silu": _silu,
    "quick_gelu": _quick_gelu,
}
