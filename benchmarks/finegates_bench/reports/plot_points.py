"""Marks of models, shared by the plots."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from finegates_bench.measuring.results import BenchReport, ModelResult, Precision
from finegates_bench.reports.plot_style import PALETTE, Key

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = {"unpruned": "s", "other": "^"}
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8")


def add_point(axes: Axes, model: ModelResult, x: float, y: float) -> None:
    """Filled for a trained model, hollow for an untrained one; a square is unpruned, a triangle another run's."""
    colour = PALETTE[model.precision]
    axes.plot(
        [x], [y], linestyle="none", marker=MARKERS.get(model.kind, "o"), markersize=6,
        markerfacecolor=colour if model.trained else PALETTE["paper"], markeredgecolor=colour, markeredgewidth=1.5,
        zorder=4,
    )  # fmt: skip


def point_keys(models: tuple[ModelResult, ...]) -> Iterator[Key]:
    """The legend for these models' marks."""
    for precision in PRECISIONS:
        if any(model.precision == precision for model in models):
            yield Key("dot", precision, precision)
    if any(model.kind == "unpruned" for model in models):
        yield Key("square", "muted", "unpruned")
    if any(model.kind == "other" for model in models):
        yield Key("triangle", "muted", "another run")
    if not all(model.trained for model in models):
        yield Key("ring", "muted", "not trained")


def by_share(report: BenchReport, precision: Precision) -> list[ModelResult]:
    """The run's models of one precision, by removed share."""
    return sorted(
        (model for model in report.of_one_base if model.precision == precision), key=lambda model: model.removed
    )
