"""What a value of a graph must be where the rest of the code relies on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finegates_export.errors import ChainError

if TYPE_CHECKING:
    import onnx_ir


def weight_of(value: onnx_ir.Value | None) -> onnx_ir.TensorProtocol:
    """The constant that a value is.

    Args:
        value: an initializer, or an input that a node reads.

    Raises:
        ChainError: it is computed, or absent.
    """
    if value is None or value.const_value is None:
        raise ChainError(
            f"the graph computes {value.name if value is not None else 'an input'} where a constant belongs; install "
            "the versions of constraints.txt"
        )
    return value.const_value


def name_of(named: onnx_ir.Node | onnx_ir.Value) -> str:
    """A name that is there: every node and value that torch's exporter writes has one.

    Raises:
        ChainError: it has none.
    """
    if named.name is None:
        raise ChainError(f"the graph has a nameless {named!r}; install the versions of constraints.txt")
    return named.name
