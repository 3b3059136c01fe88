"""The picture of `gated_product.py`: a panel for every size and number of tokens."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finegates_bench.reports.plot_style import PALETTE, PANEL_INCHES, add_margin, save_figure, styled
from product_worker import CUT, GATHERED, SELECTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from finegates_bench.measuring.results import Stamp

COLOURS = {SELECTED: PALETTE["int8"], CUT: PALETTE["float32"], GATHERED: "#4c8a57"}
LINES: dict[str, Any] = {"onnxruntime": "-", "torch": (0, (1, 1.2))}
COLUMNS = 2
MOST = 2.5
"""Ratios above are cut off: what matters is how far below 1 the others are."""


def save_plot(result: dict[str, Any], stamp: Stamp, stem: Path) -> None:
    """Write `<stem>.png` and `<stem>.svg`."""
    from matplotlib.figure import Figure

    cells = result["cells"]
    panels = list(dict.fromkeys((cell["size"], cell["tokens"]) for cell in cells))
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    with styled():
        figure = Figure(figsize=(PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows), layout="constrained")
        places = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (size, tokens) in zip(places, panels, strict=False):
            draw(axes, [cell for cell in cells if (cell["size"], cell["tokens"]) == (size, tokens)])
            axes.set_title(f"{size}, {tokens} tokens")
        for axes in places[len(panels) :]:
            axes.set_axis_off()
        figure.legend(*places[0].get_legend_handles_labels(), loc="outside upper left", ncols=4, handlelength=2.2)
        add_margin(figure, [*((way, meaning) for way, meaning in result["ways"].items()), *stamp.lines()])
        save_figure(figure, stem)


def draw(axes: Axes, cells: list[dict[str, Any]]) -> None:
    """Ratios with their intervals, and the arithmetic's share as what could be hoped for."""
    from matplotlib.ticker import PercentFormatter

    first = cells[0]["rows"]
    axes.plot(
        [row["closed"] for row in first], [row["kept"] for row in first], linestyle=(0, (4, 3)), linewidth=1.2,
        color=PALETTE["muted"], label="arithmetic", zorder=2,
    )  # fmt: skip
    for cell in cells:
        for way, colour in COLOURS.items():
            rows = [row for row in cell["rows"] if row["way"] == way]
            shares = [row["closed"] for row in rows]
            axes.plot(
                shares, [row["ratio"] for row in rows], linestyle=LINES[cell["runtime"]], linewidth=1.4, color=colour,
                marker="o", markersize=3, label=f"{cell['runtime']}, {way}", zorder=3,
            )  # fmt: skip
            axes.vlines(shares, [row["low"] for row in rows], [row["high"] for row in rows], linewidth=1, color=colour)
    axes.axhline(1.0, linewidth=0.8, color=PALETTE["muted"], zorder=1)
    axes.set_ylim(0, min(MOST, 1.05 * max(row["high"] for cell in cells for row in cell["rows"])))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("closed input dims")
    axes.set_ylabel("time / whole product")
