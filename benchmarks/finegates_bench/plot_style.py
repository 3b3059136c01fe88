"""How every plot of the benchmarks looks: colours, type, the stamp in the margin, PNG and SVG.

Drawn in one palette of distinct colours, so that a page can swap each for a variable and follow light and dark.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finegates_export.errors import missing_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = {
    "ink": "#1c2127",
    "muted": "#6b7480",
    "grid": "#e3e6ea",
    "paper": "#fffffe",
    "float32": "#2f5d8a",
    "int8": "#b3592a",
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


def styled() -> Any:
    """A context in which figures are drawn in this style.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise missing_extra("matplotlib", "bench") from error
    return rc_context(STYLE)


def add_stamp(figure: Figure, lines: Iterable[tuple[str, str]]) -> None:
    """Write names and values below the panels, on a strip that the figure grows by."""
    width, height = figure.get_size_inches()
    words = [f"{name}: {value}" for name, value in lines]
    wrapped = [line for text in words for line in textwrap.wrap(text, int(width * STAMP_CHARACTERS_PER_INCH))]
    strip = (len(wrapped) + 1) * STAMP_LINE_INCHES
    figure.set_size_inches(width, height + strip)
    share = strip / (height + strip)
    layout: Any = figure.get_layout_engine()
    layout.set(rect=(0, share, 1, 1 - share))
    figure.text(
        0.01, 0.4 * share / len(wrapped), "\n".join(wrapped), va="bottom", fontsize=STAMP_POINTS,
        color=PALETTE["muted"],
    )  # fmt: skip


def save_figure(figure: Figure, stem: Path) -> None:
    """Write `<stem>.png` and `<stem>.svg`; the same figure gives the same bytes."""
    figure.savefig(stem.with_name(f"{stem.name}.png"), dpi=PNG_DPI)
    figure.savefig(stem.with_name(f"{stem.name}.svg"), metadata={"Date": None})
