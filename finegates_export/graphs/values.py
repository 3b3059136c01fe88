"""Checked access to what the rest of the code expects of a graph's values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finegates_export.errors import ChainError

if TYPE_CHECKING:
    import onnx_ir

VERSIONS = "install the versions of constraints.txt"
"""Remedy for a graph that another version of a library made otherwise than expected."""


def weight_of(value: onnx_ir.Value | None) -> onnx_ir.TensorProtocol:
    """A value's constant.

    Args:
        value: an initializer, or an input that a node reads.

    Raises:
        ChainError: it is computed, or absent.
    """
    tensor = present(value).const_value
    if tensor is None:
        raise ChainError(f"the graph computes {present(value).name} where a constant belongs; {VERSIONS}")
    return tensor


def present(value: onnx_ir.Value | None) -> onnx_ir.Value:
    """An input or output, which must be present.

    Raises:
        ChainError: it is absent.
    """
    if value is None:
        raise ChainError(f"a node of the graph lacks an input or output; {VERSIONS}")
    return value


def name_of(named: onnx_ir.Node | onnx_ir.Value) -> str:
    """A name, which must be set: torch's exporter names every node and value.

    Raises:
        ChainError: it is not set.
    """
    if named.name is None:
        raise ChainError(f"a node or value of the graph has no name: {named}; {VERSIONS}")
    return named.name
