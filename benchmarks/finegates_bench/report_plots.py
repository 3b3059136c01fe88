"""The report's plots: latency across removed share, and metric against latency, a panel per input shape."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_bench.plot_style import PALETTE, PANEL_INCHES, add_stamp, save_figure, styled
from finegates_bench.results import BenchReport, ModelResult, Precision

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 2


@dataclass(frozen=True)
class Plot:
    """One kind of plot."""

    name: str
    """Its files' stem."""
    title: str
    draw: Callable[[Axes, BenchReport, str], None]


def plots(report: BenchReport) -> Iterator[Plot]:
    """The plots that the report has numbers for."""
    yield Plot("latency", "Latency ratio across removed share", draw_latency)
    if report.has_metric:
        yield Plot("metric", f"{report.metric_name} against latency", draw_metric)


def save_plot(plot: Plot, report: BenchReport, folder: Path) -> None:
    """Write `<name>.png` and `<name>.svg`, all shapes in one picture, with the stamp in the margin."""
    with styled():
        figure = _figure(plot, report, report.shapes, COLUMNS)
        add_stamp(figure, [("base", report.base), *report.stamp.lines()])
        save_figure(figure, folder / plot.name)


def panel_svg(plot: Plot, report: BenchReport, shape: str) -> str:
    """One shape's panel as an `<svg>` element, as wide as the page lets it be, without a background."""
    drawn = io.StringIO()
    with styled():
        _figure(plot, report, (shape,), 1).savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    return drawn.getvalue()[drawn.getvalue().index("<svg") :]


def draw_latency(axes: Axes, report: BenchReport, shape: str) -> None:
    """Ratio over removed share, with its interval, and the kept FLOPs as what could be hoped for."""
    from matplotlib.ticker import PercentFormatter

    by_share = sorted(_models(report, "float32"), key=lambda model: model.removed)
    axes.plot(
        [model.removed for model in by_share],
        [model.timing(shape).kept_flops for model in by_share],
        linestyle=(0, (4, 3)), linewidth=1.2, color=PALETTE["muted"], label="kept FLOPs", zorder=2,
    )  # fmt: skip
    for precision in _precisions(report):
        models = sorted(_models(report, precision), key=lambda model: model.removed)
        axes.plot(
            [model.removed for model in models],
            [model.timing(shape).ratio for model in models],
            linewidth=1.2, alpha=0.45, color=PALETTE[precision], zorder=2,
        )  # fmt: skip
        for model in models:
            timing = model.timing(shape)
            axes.vlines(
                model.removed, timing.ratio_low, timing.ratio_high, linewidth=1.6, color=PALETTE[precision], zorder=3
            )
            _point(axes, model, model.removed, timing.ratio)
    _legend(axes, report)
    axes.set_xlim(-0.03, max(0.5, max(model.removed for model in report.models) + 0.06))
    axes.set_ylim(0, max(1.1, 1.05 * max(model.timing(shape).ratio_high for model in report.models)))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("removed share of the layers' linear weights")
    axes.set_ylabel("latency / unpruned")
    axes.set_title(shape)


def draw_metric(axes: Axes, report: BenchReport, shape: str) -> None:
    """Metric over median latency; only models that have one."""
    scored = [(model, model.metric) for model in report.models if model.metric is not None]
    longest = max(model.timing(shape).p50_ms for model, _ in scored)
    for model, metric in scored:
        x = model.timing(shape).p50_ms
        _point(axes, model, x, metric)
        on_left = x > 0.55 * longest
        axes.annotate(
            model.label, (x, metric), xytext=(-7 if on_left else 7, 0), textcoords="offset points",
            ha="right" if on_left else "left", va="center", fontsize=8, color=PALETTE[model.precision],
        )  # fmt: skip
    lowest, highest = min(metric for _, metric in scored), max(metric for _, metric in scored)
    margin = max(0.25 * (highest - lowest), 0.005)
    axes.set_xlim(0, 1.08 * longest)
    axes.set_ylim(lowest - margin, highest + margin)
    axes.set_xlabel("median latency, ms")
    axes.set_ylabel(report.metric_name)
    axes.set_title(shape)


def _figure(plot: Plot, report: BenchReport, shapes: tuple[str, ...], columns: int) -> Figure:
    from matplotlib.figure import Figure

    columns = min(columns, len(shapes))
    rows = math.ceil(len(shapes) / columns)
    figure = Figure(figsize=(PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, shape in zip(panels, shapes, strict=False):
        plot.draw(axes, report, shape)
    for axes in panels[len(shapes) :]:
        axes.set_axis_off()
    return figure


def _point(axes: Axes, model: ModelResult, x: float, y: float) -> None:
    """Filled for a trained model, hollow for one that was not; the unpruned model is a square."""
    colour = PALETTE[model.precision]
    axes.plot(
        [x], [y], linestyle="none", marker="s" if model.kind == "unpruned" else "o", markersize=6,
        markerfacecolor=colour if model.trained else PALETTE["paper"], markeredgecolor=colour, markeredgewidth=1.5,
        zorder=4,
    )  # fmt: skip


def _legend(axes: Axes, report: BenchReport) -> None:
    from matplotlib.lines import Line2D

    handles, _ = axes.get_legend_handles_labels()
    for precision in _precisions(report):
        colour = PALETTE[precision]
        handles.append(
            Line2D([], [], linestyle="none", marker="o", color=colour, markersize=6, label=f"{precision}, trained")
        )
    if not all(model.trained for model in report.models):
        hollow = Line2D([], [], linestyle="none", marker="o", color=PALETTE["muted"], markersize=6, label="not trained")
        hollow.set(markerfacecolor=PALETTE["paper"], markeredgewidth=1.5)
        handles.append(hollow)
    axes.legend(handles=handles, loc="lower left", handlelength=1.8)


def _models(report: BenchReport, precision: Precision) -> list[ModelResult]:
    return [model for model in report.models if model.precision == precision]


def _precisions(report: BenchReport) -> list[Precision]:
    found: tuple[Precision, ...] = ("float32", "int8")
    return [precision for precision in found if _models(report, precision)]
