"""A graph and its weights as one ONNX file, written weight by weight.

Protobuf's own writer has a message whole in memory, and its bytes once more: twice the weights of a model that is in
memory already. The bytes here are those of the same message (https://protobuf.dev/programming-guides/encoding/): every
field but the weights as protobuf writes it, then the weights, each a `TensorProto` whose `raw_data` comes last.

    ModelProto  = fields  GRAPH length  GraphProto
    GraphProto  = fields  (INITIALIZER length TensorProto)*
    TensorProto = fields  RAW_DATA length  bytes of the weight
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.graphs.values import name_of, weight_of

if TYPE_CHECKING:
    import onnx
    import onnx_ir

GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
"""Field numbers of `ModelProto`, `GraphProto` and `TensorProto` in onnx.proto."""
LENGTH_DELIMITED = 2
"""The wire type of messages and bytes."""


def write_one_file(graph: onnx_ir.Model, path: Path) -> None:
    """Write a graph with its weights inside; the same graph is the same bytes each time.

    Args:
        graph: its weights are numbers, under 2 GiB in all.
        path: the file.
    """
    import onnx_ir

    weights = [weight_of(value) for value in graph.graph.initializers.values()]
    with _absent_weights(graph):
        model = onnx_ir.to_proto(graph)
    fronts = [_front(tensor, weight.nbytes) for tensor, weight in zip(model.graph.initializer, weights, strict=True)]
    del model.graph.initializer[:]
    body = model.graph.SerializeToString(deterministic=True)
    model.ClearField("graph")
    length = len(body) + sum(map(len, fronts)) + sum(weight.nbytes for weight in weights)
    with path.open("wb") as file:
        file.write(model.SerializeToString(deterministic=True) + _prefix(GRAPH, length) + body)
        for front, weight in zip(fronts, weights, strict=True):
            file.write(front)
            weight.tofile(file)  # type: ignore[attr-defined]  # all tensors have it, their protocol omits it


@contextlib.contextmanager
def _absent_weights(graph: onnx_ir.Model) -> Iterator[None]:
    """Every weight as one that lies elsewhere, for as long as the rest is serialized."""
    import onnx_ir

    values = [*graph.graph.initializers.values()]
    weights = [weight_of(value) for value in values]
    try:
        for value, weight in zip(values, weights, strict=True):
            value.const_value = onnx_ir.ExternalTensor(
                "absent", None, None, weight.dtype, shape=onnx_ir.Shape(weight.shape.numpy()), name=name_of(value)
            )
        yield
    finally:
        for value, weight in zip(values, weights, strict=True):
            value.const_value = weight


def _front(tensor: onnx.TensorProto, size: int) -> bytes:
    """All of an initializer that stands before the `size` bytes of its weight."""
    import onnx

    head = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    message = bytes(head.SerializeToString(deterministic=True)) + _prefix(RAW_DATA, size)
    return _prefix(INITIALIZER, len(message) + size) + message


def _prefix(field: int, length: int) -> bytes:
    """What stands before a field's bytes."""
    return _varint(field << 3 | LENGTH_DELIMITED) + _varint(length)


def _varint(number: int) -> bytes:
    """A number in groups of seven bits, the lowest first; all but the last carry the eighth bit."""
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])
