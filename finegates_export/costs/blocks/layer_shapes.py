"""The two halves of a transformer layer as the cost table measures them, each with its residual sum and norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from finegates_export.common.options import Options, check
from finegates_export.costs.blocks.block_shape import Feeds

COPIES = 2
"""Blocks in a row in one measured graph: each reads the output of the one before, as in a model."""
STYLES = ("plain", "relative", "rotary", "disentangled")
"""Kinds of attention, as `families.structure` names them."""
PACKING_STYLES = ("plain", "relative")
"""Styles whose Q, K and V are fused into one operator if they are equally wide."""
ACTIVATIONS = ("gelu", "gelu_pytorch_tanh", "relu", "silu", "quick_gelu", "tanh")
"""Activations that a target can write, by transformers' names."""


@dataclass(frozen=True)
class AttentionShape(Options):
    """A layer's attention, from the residual stream back to it."""

    kind: ClassVar[str] = "attention"

    batch: int
    sequence: int
    hidden: int
    """Dims of the residual stream."""
    all_heads: int
    """Heads of the unpruned layer."""
    head_dim: int
    """Dims of its heads."""
    heads: int
    """Kept heads; 0 makes the half a constant."""
    qk: int
    """Q/K dims per head."""
    vo: int
    """V/O dims per head."""
    style: str = "plain"
    """One of `STYLES`."""
    biased: bool = True
    """Whether its linears and its norm have biases."""
    packed: bool = False
    """Whether Q, K and V are one operator."""
    positions: int = 0
    """Rows of the table of relative positions (disentangled)."""
    terms: int = 0
    """Terms in the scores besides content to content (disentangled), at most 2."""

    def __post_init__(self) -> None:
        for field in ("batch", "sequence", "hidden", "all_heads", "head_dim"):
            check(getattr(self, field) > 0, field, f"must be positive, got {getattr(self, field)}")
        check(self.style in STYLES, "style", f"{self.style!r} is not one of {', '.join(STYLES)}")
        check(0 <= self.heads <= self.all_heads, "heads", f"must lie in 0 to {self.all_heads}, got {self.heads}")
        for field in ("qk", "vo"):
            width = getattr(self, field)
            fits = 0 < width <= self.head_dim or not self.heads
            check(fits, field, f"must lie in 1 to {self.head_dim} while heads are kept, got {width}")
        check(
            self.style != "rotary" or self.qk % 2 == 0,
            "qk",
            f"must be even for rotary pairs, got {self.qk}",
        )
        packable = self.style in PACKING_STYLES and self.qk == self.vo and self.heads > 0
        check(packable or not self.packed, "packed", f"needs Q/K and V of equal width, got {self.qk} and {self.vo}")
        check(self.positions > 0 or not self.terms, "positions", f"must be positive with terms, got {self.positions}")

    @property
    def tokens(self) -> int:
        """Batch times sequence."""
        return self.batch * self.sequence

    @property
    def copies(self) -> int:
        """See `BlockShape.copies`."""
        return COPIES

    @property
    def numbers(self) -> int:
        """See `BlockShape.numbers`; by measurement, accurate to a tenth."""
        dims = 2 * self.heads * (self.qk + self.vo)
        scores = self.batch * self.heads * self.sequence**2
        return 2 * self.hidden * dims * self.copies + self.tokens * (4 * self.hidden + 2 * dims) + 2 * scores

    @property
    def feeds(self) -> Feeds:
        """The residual stream, the mask, and the shared position inputs."""
        shapes: Feeds = {"x": (self.batch, self.sequence, self.hidden)}
        if self.heads:
            shapes["mask"] = (self.batch, 1, self.sequence, self.sequence)
        if self.heads and self.style == "relative":
            shapes["bias"] = (self.batch, self.all_heads, self.sequence, self.sequence)
        if self.heads and self.style == "rotary":
            shapes |= dict.fromkeys(("cos", "sin"), (1, self.sequence, self.head_dim))
        return shapes


@dataclass(frozen=True)
class FeedForwardShape(Options):
    """A layer's feed-forward network, from the residual stream back to it."""

    kind: ClassVar[str] = "feed-forward"

    batch: int
    sequence: int
    hidden: int
    """Dims of the residual stream."""
    neurons: int
    """Kept neurons; 0 makes the half a constant."""
    activation: str = "gelu"
    """Its name in transformers."""
    gated: bool = False
    """Whether a factor multiplies the activated neurons."""
    biased: bool = True
    """Whether its linears and its norm have biases."""

    def __post_init__(self) -> None:
        for field in ("batch", "sequence", "hidden"):
            check(getattr(self, field) > 0, field, f"must be positive, got {getattr(self, field)}")
        check(self.neurons >= 0, "neurons", f"must not be negative, got {self.neurons}")
        known = self.activation in ACTIVATIONS
        check(known, "activation", f"{self.activation!r} is not one of {', '.join(ACTIVATIONS)}")

    @property
    def tokens(self) -> int:
        """Batch times sequence."""
        return self.batch * self.sequence

    @property
    def copies(self) -> int:
        """See `BlockShape.copies`."""
        return COPIES

    @property
    def numbers(self) -> int:
        """See `BlockShape.numbers`."""
        dims = (3 if self.gated else 2) * self.neurons
        return 2 * self.hidden * dims * self.copies + self.tokens * (4 * self.hidden + dims)

    @property
    def feeds(self) -> Feeds:
        """The residual stream."""
        return {"x": (self.batch, self.sequence, self.hidden)}
