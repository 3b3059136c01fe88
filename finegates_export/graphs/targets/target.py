"""What a deployment target answers. Each is a module of this package: these are its attributes and its functions."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from finegates_export.errors import UnsupportedError
from finegates_export.pruning.widths import Widths

FloatType = Literal["float32", "float16"]
Integers = Literal["int8", "int8-static", "int4"]


def no_cache(target: str) -> UnsupportedError:
    """What a target says that writes no graph with a cache."""
    return UnsupportedError(
        f"--target {target} writes no decoder with a cache, which text-generation needs; use --target ort-cpu or "
        "--target portable"
    )


class Target(Protocol):
    """One file of this package."""

    NAME: str
    """What users call it."""
    OPSET: int
    """The opset it is written in unless an export asks for another."""
    CACHED_OPSET: int | None
    """The opset of a decoder's graph with a cache; None where it writes none."""
    WIDTHS: Widths
    """The multiples that an export pads widths to."""
    SETTLED_WIDTHS: Widths
    """The multiples among which training chooses, where nothing is padded yet: what the kernels like best."""
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

    def finish_cached(self, graph: Any, attention_layers: int) -> Any:
        """The same for a decoder's graph with a cache.

        Args:
            graph: an `onnx_ir.Model`; changed in place.
            attention_layers: layers whose attention is not empty.

        Raises:
            FusionError: what the target relies on is not in the graph.
            UnsupportedError: the target writes none.
        """
