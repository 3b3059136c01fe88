"""One linear as the cost table measures it: its size, and the operators before and after its product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from finegates_export.common.options import Options, check
from finegates_export.costs.blocks.block_shape import Feeds

Precision = Literal["float32", "int8"]
PRECISIONS: tuple[Precision, ...] = ("float32", "int8")

MOST_COPIES = 4
MOST_COPIED_ELEMENTS = 1 << 26
"""256 MiB of weights: beyond that, one matrix fills any CPU's cache by itself."""


@dataclass(frozen=True)
class LinearShape(Options):
    """A linear, with a gather before or after it if it reads or writes less than the residual width."""

    kind: ClassVar[str] = "linear"

    tokens: int
    """Rows of the product: batch times sequence."""
    inputs: int
    """Dims that the matrix reads."""
    outputs: int
    """Dims that the matrix writes."""
    read_from: int | None = None
    """Gather the inputs from this many dims; None if the tensor is as narrow as the matrix."""
    write_to: int | None = None
    """Scatter the outputs over this many dims; None if the tensor is as narrow as the matrix."""
    bias: bool = True
    activation: bool = False
    """Whether a GELU follows, fused with the bias."""
    precision: Precision = "float32"
    """`int8`: the input is quantized dynamically, and the product is one of integers."""

    def __post_init__(self) -> None:
        for field in ("tokens", "inputs", "outputs"):
            check(getattr(self, field) > 0, field, f"must be positive, got {getattr(self, field)}")
        for field, size in (("read_from", self.inputs), ("write_to", self.outputs)):
            whole = getattr(self, field)
            check(whole is None or whole >= size, field, f"must hold the {size} dims of the matrix, got {whole}")
        check(self.bias or not self.activation, "activation", "includes the bias; pass bias=True")
        known = self.precision in PRECISIONS
        check(known, "precision", f"{self.precision!r} is not one of {', '.join(PRECISIONS)}")

    @property
    def gathered(self) -> bool:
        """Whether there is a gather on either side."""
        return self.read_from is not None or self.write_to is not None

    @property
    def width_in(self) -> int:
        """Dims of the input tensor."""
        return self.inputs if self.read_from is None else self.read_from

    @property
    def width_out(self) -> int:
        """Dims of the output tensor."""
        return self.outputs if self.write_to is None else self.write_to

    @property
    def feeds(self) -> Feeds:
        """One sequence of all tokens: to a product, rows and sequences are the same."""
        return {"x": (1, self.tokens, self.width_in)}

    @property
    def copies(self) -> int:
        """Number of linears of this shape, each with its own weights, in one measured graph.

        A model runs through all its layers before a matrix is read again, so it comes from memory and not from the
        nearest cache, and one call serves many linears. A single small linear misleads: at 32 tokens, a gather
        before 768 to 540 seems to gain nothing, but saves a tenth in a graph of four.
        """
        return max(1, min(MOST_COPIES, MOST_COPIED_ELEMENTS // (self.inputs * self.outputs)))

    @property
    def numbers(self) -> int:
        """See `BlockShape.numbers`."""
        weights = 2 * self.inputs * self.outputs * self.copies
        return weights + self.tokens * (self.width_in + self.copies * self.width_out)
