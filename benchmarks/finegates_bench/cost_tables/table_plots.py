"""The staircase: milliseconds over width, a panel for every width and one for every row of consecutive ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_bench.cost_tables.table_markdown import UNITS, line_title
from finegates_bench.cost_tables.table_results import CostLine, CostReport, WidthCost
from finegates_bench.reports.plot_style import PALETTE, PANEL_INCHES, add_margin, save_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STAIRCASE = "staircase"
COLUMNS = 2
HEADROOM = 1.06
CLOSE_UP_MARGIN = 0.15
"""Of the milliseconds that a close-up shows, above and below."""


@dataclass(frozen=True)
class Panel:
    """One panel."""

    title: str
    line: CostLine
    points: list[WidthCost]
    """What it shows of the line."""
    close_up: bool = False
    """Whether these are the consecutive widths alone."""


def save_staircase(report: CostReport, folder: Path) -> None:
    """Write `staircase.png` and `staircase.svg`, with the stamp in the margin.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    panels = list(_panels(report))
    rows = math.ceil(len(panels) / COLUMNS)
    with styled():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(PANEL_INCHES[0] * COLUMNS, PANEL_INCHES[1] * rows), layout="constrained")
        places = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axes, panel in zip(places, panels, strict=False):
            _draw(axes, panel)
        for axes in places[len(panels) :]:
            axes.set_axis_off()
        add_margin(figure, [("base", f"{report.base} at {report.shape}, {report.target}"), *report.stamp.lines()])
        save_figure(figure, folder / STAIRCASE)


def _panels(report: CostReport) -> Iterator[Panel]:
    """Every line; consecutive widths that lie close together on it in a panel of their own, and their ends on it."""
    for form in report.forms:
        for line in form.lines:
            title, points = line_title(report, form, line), list(line.points)
            first, last = line.dense or (0, 0)
            if last - first == 0 or last - first >= line.whole.width // 2:
                yield Panel(title, line, points)
                continue
            yield Panel(title, line, [point for point in points if not first < point.width < last])
            near = [point for point in points if first <= point.width <= last]
            yield Panel(f"{first:,} to {last:,} {UNITS[line.axis]}", line, near, close_up=True)


def _draw(axes: Axes, panel: Panel) -> None:
    """Points with their intervals, and beside them a half whose time would fall as its arithmetic does."""
    whole, points = panel.line.whole, panel.points
    widths = [point.width for point in points]
    ends = [widths[0], widths[-1]] if panel.close_up else [0, whole.width]
    axes.plot(
        ends, [whole.ms * width / whole.width for width in ends], linestyle=(0, (4, 3)), linewidth=1.2,
        color=PALETTE["muted"], label="time as the arithmetic", zorder=2,
    )  # fmt: skip
    axes.plot(widths, [point.ms for point in points], linewidth=1.0, alpha=0.45, color=PALETTE["float32"], zorder=2)
    axes.vlines(
        widths, [point.low for point in points], [point.high for point in points], linewidth=1.4,
        color=PALETTE["float32"], zorder=3,
    )  # fmt: skip
    for packed, face in ((False, PALETTE["float32"]), (True, PALETTE["paper"])):
        some = [point for point in points if point.packed == packed]
        label = {"neurons": "measured"}.get(panel.line.axis, "Q, K, V in one operator" if packed else "Q, K, V apart")
        axes.plot(
            [point.width for point in some], [point.ms for point in some], linestyle="none", marker="o",
            markersize=3 if panel.close_up else 4.5, markerfacecolor=face, markeredgecolor=PALETTE["float32"],
            markeredgewidth=1.2, zorder=4, label=label if some else None,
        )  # fmt: skip
    if panel.close_up:
        low, high = min(point.low for point in points), max(point.high for point in points)
        margin = CLOSE_UP_MARGIN * (high - low)
        axes.set_ylim(low - margin, high + margin)
    else:
        axes.set_xlim(0, HEADROOM * whole.width)
        axes.set_ylim(min(0.0, *(point.low for point in points)), HEADROOM * max(point.high for point in points))
    axes.legend(loc="upper left", handlelength=1.8)
    axes.set_xlabel(UNITS[panel.line.axis])
    axes.set_ylabel("ms")
    axes.set_title(panel.title)
