"""A graph's inputs and outputs, in Triton's terms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.errors import InputError, missing_extra

if TYPE_CHECKING:
    from onnx import ValueInfoProto

FREE = -1
"""How a config writes an axis of any size."""
TYPES = {"FLOAT": "TYPE_FP32", "FLOAT16": "TYPE_FP16", "INT64": "TYPE_INT64", "INT32": "TYPE_INT32"}
"""Triton's names of ONNX's types."""


@dataclass(frozen=True)
class Tensor:
    """An input or output."""

    name: str
    data_type: str
    """Triton's name of the type."""
    dims: tuple[int, ...]
    """Sizes without the batch, which Triton counts separately; `FREE` for any size."""


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a graph, in order."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def read_signature(graph: Path) -> Signature:
    """Read a graph's inputs and outputs.

    Raises:
        InputError: one of them has a type that Triton does not know.
        MissingExtraError: onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise missing_extra("onnx", "export") from error

    def tensor(value: ValueInfoProto) -> Tensor:
        told = value.type.tensor_type
        name = onnx.TensorProto.DataType.Name(told.elem_type)
        if name not in TYPES:
            raise InputError(f"{graph}: {value.name} has the unknown type {name}; known are {', '.join(TYPES)}")
        sizes = (dim.dim_value if dim.HasField("dim_value") else FREE for dim in told.shape.dim)
        return Tensor(value.name, TYPES[name], tuple(sizes)[1:])

    described = onnx.load(graph, load_external_data=False).graph
    return Signature(tuple(map(tensor, described.input)), tuple(map(tensor, described.output)))
