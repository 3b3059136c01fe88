"""A graph and its weights as one ONNX file, written weight by weight.

Protobuf's own writer holds the whole message and its bytes in memory: twice the weights, on top of the model itself.
The bytes written here are those of the same message (https://protobuf.dev/programming-guides/encoding/): every field
but the weights as protobuf writes it, then the weights, each a `TensorProto` whose `raw_data` comes last.

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
    """Write a graph with its weights inside; the same graph always gives the same bytes.

    Args:
        graph: its weights are numeric, and smaller than 2 GiB together.
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
            weight.tofile(file)  # type: ignore[attr-defined]  # every tensor has it, but their protocol omits it


@contextlib.contextmanager
def _absent_weights(graph: onnx_ir.Model) -> Iterator[None]:
    """Mark every weight as stored elsewhere while the rest is serialized."""
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
    """Everything in an initializer that precedes the `size` bytes of its weight."""
    import onnx

    head = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    message = bytes(head.SerializeToString(deterministic=True)) + _prefix(RAW_DATA, size)
    return _prefix(INITIALIZER, len(message) + size) + message


def _prefix(field: int, length: int) -> bytes:
    """The tag and length that precede a field's bytes."""
    return _varint(field << 3 | LENGTH_DELIMITED) + _varint(length)


def _varint(number: int) -> bytes:
    """A number in groups of seven bits, the lowest first; all but the last set the eighth bit."""
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])
