"""What a deployment target answers. Each is a module of this package: these are its attributes and its functions."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from finegates_export.gates.settle import Widths
from finegates_export.targets.block_shape import BlockShape

FloatType = Literal["float32", "float16"]
Integers = Literal["int8", "int8-static", "int4"]


class Target(Protocol):
    """One file of this package."""

    NAME: str
    """What users call it."""
    OPSET: int
    """The opset it is written in unless an export asks for another."""
    WIDTHS: Widths
    """Which widths its kernels like."""
    FLOAT: FloatType
    """Of weights and arithmetic in the delivered graph; inputs and outputs stay as they are."""
    INTEGERS: tuple[Integers, ...]
    """The quantized forms that it runs."""

    def finish(self, graph: Any, expected_fusions: dict[str, int]) -> Any:
        """The passes that turn a plain float32 graph into this target's.

        Args:
            graph: an `onnx_ir.Model` of plain operators; changed in place.
            expected_fusions: fused nodes by class, as the family expects them.

        Raises:
            FusionError: what the target relies on is not in the graph.
        """


class MeasuredTarget(Target, Protocol):
    """A target whose blocks are timed on the machine that exports or trains."""

    def block_graph(self, shape: BlockShape, seed: int = 0) -> bytes:
        """A graph of a few blocks of one shape and nothing else, for the cost table.

        Args:
            shape: the block.
            seed: of everything drawn.

        Returns:
            An ONNX file; its inputs are `shape.feeds`, its outputs single numbers.

        Raises:
            TypeError: a kind of block that this target cannot write.
        """
