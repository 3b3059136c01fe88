"""Every style of attention for onnxruntime, up to the values that the output projection reads.

Letters: B batch, S sequence, D residual width, h heads, q Q/K width, v V/O width, P relative positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from finegates_export.costs.blocks.block_graph import BlockGraph
from finegates_export.costs.blocks.layer_shapes import AttentionShape

if TYPE_CHECKING:
    from onnx_ir import Value

Attend = Callable[["Value", str], "Value"]
"""From x_BSD and a name for the nodes to the values of all heads, (B, S, h*v)."""
HEADS_FIRST = [0, 2, 1, 3]
AXES = {
    "x": ("batch", "sequence", None),
    "mask": ("batch", None, "sequence", "sequence"),
    "bias": ("batch", None, "sequence", "sequence"),
    "cos": (None, "sequence", None),
    "sin": (None, "sequence", None),
}
"""Which axes of the inputs are free."""


def free_axes(name: str, dims: tuple[int, ...]) -> list[int | str]:
    """The axes of an input as an exported graph declares them."""
    return [axis or size for axis, size in zip(AXES[name], dims, strict=True)]


def _plain(graph: BlockGraph, shape: AttentionShape, given: Mapping[str, Value]) -> Attend:
    return lambda x, name: _under_bias(graph, shape, x, given["mask"], name)


def _relative(graph: BlockGraph, shape: AttentionShape, given: Mapping[str, Value]) -> Attend:
    """Each layer takes its kept heads of the shared bias; if all are kept, the sum is shared too."""

    def attend(x: Value, name: str) -> Value:
        if shape.heads == shape.all_heads:
            return _under_bias(graph, shape, x, given["bias"], name)
        kept = graph.integers(f"{name}.kept", *range(shape.heads))
        own = graph.add("Gather", [given["bias"], kept], f"{name}.own_bias", axis=1)
        return _under_bias(graph, shape, x, graph.add("Add", [own, given["mask"]], f"{name}.scores_bias"), name)

    return attend


def _rotary(graph: BlockGraph, shape: AttentionShape, given: Mapping[str, Value]) -> Attend:
    """Q and K are rotated outside the operator, by the angles of each head's kept pairs."""

    def attend(x: Value, name: str) -> Value:
        widths = [shape.heads * shape.qk] * 2 + [shape.heads * shape.vo]
        fused = graph.linear(x, shape.hidden, sum(widths), f"{name}.qkv", biased=shape.biased)
        sizes = graph.integers(f"{name}.widths", *widths)
        q, k, v = graph.split([fused, sizes], 3, f"{name}.split", axis=2)
        angles = [_angles(graph, shape, given[table], f"{name}.{table}") for table in ("cos", "sin")]
        turned = []
        for word, source in (("q", q), ("k", k)):
            heads_first = _heads_first(graph, source, shape.heads, shape.qk, f"{name}.{word}")
            turned.append(_heads_last(graph, _turn(graph, heads_first, angles, f"{name}.{word}"), f"{name}.{word}"))
        q, k = turned
        return _attention(graph, shape, (q, k, v), _own_copy(graph, given["mask"], x, name), name)

    return attend


def _disentangled(graph: BlockGraph, shape: AttentionShape, given: Mapping[str, Value]) -> Attend:
    """Position terms are looked up in products with a table, and added to the mask."""
    drawn = graph.generator.integers(0, max(1, shape.positions), (1, 1, shape.sequence, shape.sequence))
    positions = graph.constant("positions", drawn)
    table = graph.weights("table", 1, max(1, shape.positions), shape.hidden)

    def attend(x: Value, name: str) -> Value:
        q, k = (
            _heads_first(
                graph, _projected(graph, shape, x, word, shape.qk, name), shape.heads, shape.qk, f"{name}.{word}"
            )
            for word in ("q", "k")
        )
        v = _projected(graph, shape, x, "v", shape.vo, name)
        bias = given["mask"]
        terms = [
            _position_term(graph, shape, source, positions, table, f"{name}.{word}", transposed=word == "p2c")
            for word, source in (("c2p", q), ("p2c", k))[: shape.terms]
        ]
        if terms:
            total = terms[0] if len(terms) == 1 else graph.add("Add", terms, f"{name}.terms")
            scaled = graph.add("Mul", [total, graph.constant(f"{name}.scale", np.float32(0.1))], f"{name}.scaled_terms")
            bias = graph.add("Add", [bias, scaled], f"{name}.scores_bias")
        q, k = (_heads_last(graph, value, f"{name}.{word}") for word, value in (("q", q), ("k", k)))
        return _attention(graph, shape, (q, k, v), _own_copy(graph, bias, x, name), name)

    return attend


ATTENTION: dict[str, Callable[[BlockGraph, AttentionShape, Mapping[str, Value]], Attend]] = {
    "plain": _plain,
    "relative": _relative,
    "rotary": _rotary,
    "disentangled": _disentangled,
}
"""The function that writes a style's attention, given the inputs that layers share."""


def _under_bias(graph: BlockGraph, shape: AttentionShape, x: Value, bias: Value, name: str) -> Value:
    if shape.packed:
        width = shape.heads * shape.qk
        matrix = graph.weights(f"{name}.qkv.weight", shape.hidden, 3 * width)
        vector = graph.weights(f"{name}.qkv.bias", 3 * width)
        return graph.add(
            "Attention", [x, matrix, vector, None, None, bias], f"{name}.attention", contrib=True,
            num_heads=shape.heads, qkv_hidden_sizes=[width] * 3, scale=shape.head_dim**-0.5,
        )  # fmt: skip
    widths = {"q": shape.qk, "k": shape.qk, "v": shape.vo}
    q, k, v = (_projected(graph, shape, x, word, width, name) for word, width in widths.items())
    return _attention(graph, shape, (q, k, v), bias, name)


def _projected(graph: BlockGraph, shape: AttentionShape, x: Value, word: str, width: int, name: str) -> Value:
    return graph.linear(x, shape.hidden, shape.heads * width, f"{name}.{word}", biased=shape.biased)


def _attention(
    graph: BlockGraph, shape: AttentionShape, qkv: tuple[Value, Value, Value], bias: Value, name: str
) -> Value:
    return graph.add(
        "MultiHeadAttention", [*qkv, None, None, bias], f"{name}.attention", contrib=True,
        num_heads=shape.heads, scale=shape.head_dim**-0.5,
    )  # fmt: skip


def _split_heads(graph: BlockGraph, x: Value, heads: int, width: int, name: str) -> Value:
    return graph.add("Reshape", [x, graph.integers(f"{name}.heads", 0, 0, heads, width)], f"{name}.split_heads")


def _join_heads(graph: BlockGraph, x: Value, name: str) -> Value:
    return graph.add("Reshape", [x, graph.integers(f"{name}.joined", 0, 0, -1)], f"{name}.join_heads")


def _heads_first(graph: BlockGraph, x: Value, heads: int, width: int, name: str) -> Value:
    """From (B, S, h*width) to (B, h, S, width)."""
    split = _split_heads(graph, x, heads, width, name)
    return graph.add("Transpose", [split], f"{name}.heads_first", perm=HEADS_FIRST)


def _heads_last(graph: BlockGraph, x: Value, name: str) -> Value:
    """Back to (B, S, h*width)."""
    return _join_heads(graph, graph.add("Transpose", [x], f"{name}.heads_last", perm=HEADS_FIRST), name)


def _own_copy(graph: BlockGraph, bias: Value, x: Value, name: str) -> Value:
    """The fusion of these styles expands the bias over the queries, even if it already has that size."""
    length = graph.add("Shape", [x], f"{name}.length", start=1, end=2)
    one = graph.integers(f"{name}.one", 1)
    whole = graph.add("Concat", [one, one, length, one], f"{name}.bias_shape", axis=0)
    return graph.add("Expand", [bias, whole], f"{name}.bias")


def _angles(graph: BlockGraph, shape: AttentionShape, table: Value, name: str) -> Value:
    """From (1, S, head_dim) to (1, h or 1, S, q): each head's own pairs if some were removed."""
    if shape.qk == shape.head_dim:
        return graph.add("Unsqueeze", [table, graph.integers(f"{name}.axis", 1)], f"{name}.spread")
    dims = np.concatenate(
        [np.sort(graph.generator.permutation(shape.head_dim)[: shape.qk]) for _ in range(shape.heads)]
    )
    kept = graph.add("Gather", [table, graph.constant(f"{name}.dims", dims)], f"{name}.kept", axis=-1)
    sizes = graph.integers(f"{name}.heads", 1, -1, shape.heads, shape.qk)
    split = graph.add("Reshape", [kept, sizes], f"{name}.split_heads")
    return graph.add("Transpose", [split], f"{name}.heads_first", perm=HEADS_FIRST)


def _turn(graph: BlockGraph, x: Value, angles: list[Value], name: str) -> Value:
    cos, sin = angles
    first, second = graph.split([x], 2, f"{name}.halves", axis=3, num_outputs=2)
    rotated = graph.add("Concat", [graph.add("Neg", [second], f"{name}.negative"), first], f"{name}.rotated", axis=-1)
    along, across = (
        graph.add("Mul", [value, table], f"{name}.{word}")
        for word, value, table in (("along", x, cos), ("across", rotated, sin))
    )
    return graph.add("Add", [along, across], f"{name}.turned")


def _position_term(
    graph: BlockGraph,
    shape: AttentionShape,
    x_BhSq: Value,
    positions: Value,
    table: Value,
    name: str,
    *,
    transposed: bool,
) -> Value:
    """Scores of queries (or keys) with every relative position, gathered at the tokens' distances."""
    projected = graph.linear(table, shape.hidden, shape.heads * shape.qk, f"{name}.table", biased=shape.biased)
    split = _split_heads(graph, projected, shape.heads, shape.qk, f"{name}.table")
    table_1hqP = graph.add("Transpose", [split], f"{name}.table_last", perm=[0, 2, 3, 1])
    scores_BhSP = graph.add("MatMul", [x_BhSq, table_1hqP], f"{name}.scores")
    sizes = graph.add("Shape", [x_BhSq], f"{name}.sizes", start=0, end=3)
    length = graph.add("Shape", [x_BhSq], f"{name}.length", start=2, end=3)
    whole = graph.add("Concat", [sizes, length], f"{name}.whole", axis=0)
    index = graph.add("Expand", [positions, whole], f"{name}.index")
    term = graph.add("GatherElements", [scores_BhSP, index], f"{name}.term", axis=-1)
    return graph.add("Transpose", [term], f"{name}.transposed", perm=[0, 1, 3, 2]) if transposed else term
