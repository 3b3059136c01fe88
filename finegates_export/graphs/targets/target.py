"""The protocol of a deployment target: the attributes and functions of each module in this package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from finegates_export.errors import UnsupportedError
from finegates_export.pruning.widths import Widths

if TYPE_CHECKING:
    from onnx_ir.passes import PassBase

FloatType = Literal["float32", "float16"]
Integers = Literal["int8", "int8-static", "int4"]


def no_cache(target: str) -> UnsupportedError:
    """The error of a target that writes no graph with a cache."""
    return UnsupportedError(
        f"--target {target} writes no decoder with a cache, which text-generation needs; use --target ort-cpu or "
        "--target portable"
    )


class Target(Protocol):
    """A module of this package."""

    NAME: str
    """Its name for users."""
    OPSET: int
    """The default opset."""
    CACHED_OPSET: int | None
    """The opset of a decoder's graph with a cache; None if it writes none."""
    WIDTHS: Widths
    """The multiples that an export pads widths to."""
    SETTLED_WIDTHS: Widths
    """The multiples that training chooses from, before any padding: those that the kernels prefer."""
    FLOAT: FloatType
    """The precision of weights and arithmetic in the delivered graph; inputs and outputs keep theirs."""
    INT8_BITS: int
    """Bits of an int8 weight unless an option says otherwise: 7 where a processor may add products in 16 bits."""
    INTEGERS: tuple[Integers, ...]
    """The quantized forms that it runs."""

    def passes(self, expected_fusions: dict[str, int]) -> list[PassBase]:
        """The passes that turn a plain float32 graph into this target's, in order.

        Args:
            expected_fusions: fused nodes by class, as the family expects them.
        """

    def cached_passes(self, attention_layers: int) -> list[PassBase]:
        """The same, for a decoder's graph with a cache.

        Args:
            attention_layers: layers whose attention is not empty.

        Raises:
            UnsupportedError: the target writes none.
        """
