"""One form compared with the gated model, and how far it may differ."""

from __future__ import annotations

from dataclasses import dataclass

from finegates_export.common.options import Options, check
from finegates_export.verification.agreed import Agreed


@dataclass(frozen=True)
class Tolerances(Options):
    """How far a link may differ."""

    float32: float = 1e-4
    """Largest difference of a float32 link, relative to the scale."""
    agreement: float = 0.99
    """Least share of equal predictions for a quantized link, as far as the rows can tell."""
    metric_points: float = 1.0
    """Most points of the metric that a quantized link may lose; see `metrics.points_lost`."""

    def __post_init__(self) -> None:
        check(self.float32 > 0, "float32", f"must be positive, got {self.float32}")
        check(0 <= self.agreement <= 1, "agreement", f"must lie in [0, 1], got {self.agreement}")
        check(self.metric_points >= 0, "metric_points", f"must not be negative, got {self.metric_points}")


@dataclass(frozen=True)
class Link:
    """One form compared with the gated model."""

    name: str
    absolute: float
    """Largest absolute difference of the task's outputs."""
    relative: float
    """Largest difference of the task's outputs, each relative to its own scale."""
    hidden_relative: float | None
    """Largest difference of the last hidden state over its scale; None if the form does not return it."""
    agreement: float | None
    """Share of equal predictions; for regression, the correlation with the gated model's scores; for embeddings and
    features, the mean cosine similarity."""
    metric: float | None
    """The run's own metric on labelled rows; None without labels."""
    metric_lost: float | None
    """How much worse it is than the gated model's, in hundredths of a point."""
    exact: bool
    """Whether the float32 tolerance applies to the link."""
    gated_rounding: float | None = None
    """How far the gated model in float32 is from itself in float64, of the scale, where the link missed its limit: the
    differences above are then those from float64. None where it held without."""
    greedy: float | None = None
    """Share of the gated model's generated tokens that the form chooses too, token by token; ties count."""
    agreed: Agreed | None = None
    """The predictions of a quantized form, counted; None for exact forms, scores and vectors."""
