"""The style of every benchmark plot: colours, marks, type, keys and stamp in the margin, PNG and SVG.

Drawn in one palette of distinct colours, so that a page can swap each for a variable and follow light and dark; files
draw the marks in a legend, the page in a list.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from finegates_export.common.words import one_line
from finegates_export.errors import missing_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

PALETTE = {
    "ink": "#1c2127",
    "muted": "#6b7480",
    "grid": "#e3e6ea",
    "paper": "#fffffe",
    "gone": "#d9dde2",
    "float32": "#2f5d8a",
    "float16": "#2e5c8a",
    "int8": "#b3592a",
    "heads": "#2a7a78",
    "neurons": "#5b5ea6",
    "padding": "#d79b26",
}
"""Colours by their role; the page has a variable of the same name for each."""
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": PALETTE["muted"],
    "axes.facecolor": PALETTE["paper"],
    "axes.grid": True,
    "axes.labelcolor": PALETTE["ink"],
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": PALETTE["ink"],
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.facecolor": PALETTE["paper"],
    "grid.color": PALETTE["grid"],
    "grid.linewidth": 0.8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.labelcolor": PALETTE["ink"],
    "svg.fonttype": "none",
    "svg.hashsalt": "finegates",
    "text.color": PALETTE["ink"],
    "text.parse_math": False,
    "xtick.color": PALETTE["muted"],
    "xtick.labelsize": 8,
    "ytick.color": PALETTE["muted"],
    "ytick.labelsize": 8,
}
PANEL_INCHES = (4.6, 3.3)
PNG_DPI = 160
STAMP_POINTS = 6
STAMP_LINE_INCHES = 0.12
STAMP_CHARACTERS_PER_INCH = 19
KEY_LINE_INCHES = 0.17
KEY_COLUMNS = 2

Mark = Literal["dot", "ring", "diamond", "square", "triangle", "dash", "block"]


@dataclass(frozen=True)
class Key:
    """A mark and what it means."""

    mark: Mark
    role: str
    """Its colour, a key of `PALETTE`."""
    words: str

    def handle(self) -> Line2D:
        """The mark for a legend."""
        from matplotlib.lines import Line2D

        colour = PALETTE[self.role]
        if self.mark == "dash":
            return Line2D([], [], linestyle=(0, (4, 3)), linewidth=1.2, color=colour, label=self.words)
        hollow = self.mark in ("ring", "diamond")
        shapes = {"dot": "o", "ring": "o", "diamond": "D", "square": "s", "triangle": "^", "block": "s"}
        return Line2D(
            [], [], linestyle="none", marker=shapes[self.mark], color=colour,
            markersize=8 if self.mark == "block" else 6, markerfacecolor=PALETTE["paper"] if hollow else colour,
            markeredgewidth=1.5, label=one_line(self.words),
        )  # fmt: skip


def check_plots() -> None:
    """Fail before a measurement whose plots could not be drawn.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import_module("matplotlib")
    except ImportError as error:
        raise missing_extra("matplotlib", "bench") from error


def styled() -> Any:
    """A context in which figures are drawn in this style.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    check_plots()
    from matplotlib import rc_context

    return rc_context(STYLE)


def add_margin(figure: Figure, lines: Iterable[tuple[str, str]], keys: tuple[Key, ...] = ()) -> None:
    """Write keys, and names with values, below the panels, on a strip that the figure grows by."""
    width, height = figure.get_size_inches()
    words = [one_line(f"{name}: {value}") for name, value in lines]
    wrapped = [line for text in words for line in textwrap.wrap(text, int(width * STAMP_CHARACTERS_PER_INCH))]
    stamp = (len(wrapped) + 1) * STAMP_LINE_INCHES
    strip = stamp + ((math.ceil(len(keys) / KEY_COLUMNS) + 1) * KEY_LINE_INCHES if keys else 0.0)
    whole = height + strip
    figure.set_size_inches(width, whole)
    layout: Any = figure.get_layout_engine()
    layout.set(rect=(0, strip / whole, 1, height / whole))
    if keys:
        figure.legend(
            handles=[key.handle() for key in keys], loc="lower left", bbox_to_anchor=(0, stamp / whole),
            ncols=KEY_COLUMNS, handlelength=1.8,
        )  # fmt: skip
    figure.text(
        0.01, 0.4 * STAMP_LINE_INCHES / whole, "\n".join(wrapped), va="bottom", fontsize=STAMP_POINTS,
        color=PALETTE["muted"],
    )  # fmt: skip


def save_figure(figure: Figure, stem: Path) -> None:
    """Write `<stem>.png` and `<stem>.svg`; the same figure gives the same bytes."""
    figure.savefig(stem.with_name(f"{stem.name}.png"), dpi=PNG_DPI)
    figure.savefig(stem.with_name(f"{stem.name}.svg"), metadata={"Date": None})
