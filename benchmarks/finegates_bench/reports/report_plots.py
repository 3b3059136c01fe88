"""The report's plots as files and as panels of the page: metric against latency, latency across removed share, plan."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_bench.measuring.results import BenchReport
from finegates_bench.reports.plot_latency import draw_latency, latency_keys
from finegates_bench.reports.plot_metric import draw_metric, metric_keys
from finegates_bench.reports.plot_plan import draw_plan, plan_keys, plan_panels
from finegates_bench.reports.plot_style import Key, add_margin, save_figure, styled
from finegates_trainer.learning.metrics import LESS_IS_BETTER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHAPE_INCHES = (3.5, 2.7)
PLAN_INCHES = (3.5, 2.2)
COLUMNS = 2
NAMED = re.compile(r'(?<=\bid=")|(?<=url\(#)|(?<=href="#)')
"""Ids in an SVG, and references to them."""


@dataclass(frozen=True)
class Plot:
    """One kind of plot: the same drawing in several panels."""

    name: str
    """Stem of its file names."""
    title: str
    words: str
    """How to read it."""
    panels: tuple[str, ...]
    """The subject of each panel: a shape, or a model's id."""
    keys: tuple[Key, ...]
    draw: Callable[[Axes, BenchReport, str], None]
    inches: tuple[float, float] = SHAPE_INCHES
    """Width and height of a panel."""


def _better(metric: str) -> str:
    return "Down" if metric in LESS_IS_BETTER else "Up"


def plots(report: BenchReport) -> Iterator[Plot]:
    """The plots that the report has numbers for."""
    if report.has_metric:
        yield Plot(
            "metric",
            f"{report.metric_name} against latency",
            f"{_better(report.metric_name)} is better, left is faster. Models without a metric are not in it.",
            report.shapes,
            metric_keys(report),
            draw_metric,
        )
    yield Plot(
        "latency",
        "Latency across removed share",
        "Medians over the unpruned model's, with 95 % intervals. The dashed line is the arithmetic limit: the share of "
        "floating-point operations that the plan kept, which float32 cannot be expected to go below."
        + (" Dotted lines are other runs' models." if len(report.of_one_base) < len(report.models) else ""),
        report.shapes,
        latency_keys(report),
        draw_latency,
    )
    yield Plot(
        "plan",
        "What is left of every layer",
        "Every column is a layer, the first reads the embeddings. Filled is what stays of its heads (blocks, as high "
        "as they are wide) and of its neurons; the rest of the column is gone.",
        plan_panels(report),
        plan_keys(report),
        draw_plan,
        PLAN_INCHES,
    )


def save_plot(plot: Plot, report: BenchReport, folder: Path) -> None:
    """Write `<name>.png` and `<name>.svg`, all panels in one picture, with keys and the stamp below."""
    with styled():
        figure = _figure(plot, report, plot.panels, COLUMNS)
        add_margin(figure, [("base", report.base), *report.stamp.lines()], plot.keys)
        save_figure(figure, folder / plot.name)


def panel_svg(plot: Plot, report: BenchReport, panel: str) -> str:
    """One panel as an `<svg>` element, as wide as the page lets it be, without a background, with unique ids."""
    drawn = io.StringIO()
    with styled():
        _figure(plot, report, (panel,), 1).savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    svg = drawn.getvalue()[drawn.getvalue().index("<svg") :]
    return NAMED.sub(f"{plot.name}-{panel}-", svg)


def _figure(plot: Plot, report: BenchReport, panels: tuple[str, ...], columns: int) -> Figure:
    from matplotlib.figure import Figure

    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(plot.inches[0] * columns, plot.inches[1] * rows), layout="constrained")
    shown = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(shown, panels, strict=False):
        plot.draw(axes, report, panel)
    for axes in shown[len(panels) :]:
        axes.set_axis_off()
    return figure
