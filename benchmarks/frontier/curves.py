"""The paper's figure 2 drawn again: what removed shares cost, task by task, from the studies in a folder of results.

    python benchmarks/frontier/curves.py --results FOLDER --out PICTURE

A panel for each task; points of the metric against the unpruned model of the same base and seed, the mean over seeds as
a line, dashed where the walk started from the unpruned model; hollow marks are runs straight to one share (`gates-40`,
`started-40`). Beside them what the paper's text states of its figure.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from finegates_bench.reports.plot_style import PALETTE, PANEL_INCHES, Key, add_margin, save_figure, styled
from finegates_trainer.learning.metrics import gain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNPRUNED, WALK, STARTED = "unpruned", "gates", "started"
"""Runs of a study: LoRA alone, and walks from new LoRA and from the unpruned run's."""
TASKS = {"sst2": "SST-2 sentences", "cola": "CoLA", "stsb": "STS-B"}
"""A study is called BASE-TASK."""
BASES = {"mpnet": ("MPNet, 12 x 768", "float32"), "minilm": ("MiniLM, 6 x 384", "heads")}
"""What each base is called, and its colour."""
STATED = {"sst2": (0.4, -4.0), "cola": (0.2, 0.0), "stsb": (0.4, -3.0)}
"""Removed share and points lost, as Svirsky et al. state them in words: 40 % of SST-2's model for 4 points, 20 % of
CoLA's for none that are significant, 40 % of STS-B's for 3."""
STARTED_FROM = "started from the unpruned model's LoRA and head"
KINDS = {
    (STARTED, False): Key("dash", "ink", STARTED_FROM),
    (WALK, True): Key("ring", "ink", "straight to one share"),
    (STARTED, True): Key("diamond", "ink", f"straight, {STARTED_FROM}"),
}
"""Run and whether it is straight: what the legend says of all but the walk itself."""
SHARES = (0.0, 0.92)


@dataclass(frozen=True)
class Curve:
    """One base's walk on one task, or its runs straight to one share."""

    base: str
    run: str
    straight: bool
    points: dict[float, list[float]]
    """By removed share, one gain a seed."""

    def means(self) -> list[tuple[float, float]]:
        """The line, from the unpruned model on."""
        return [(0.0, 0.0), *((share, mean(gains)) for share, gains in sorted(self.points.items()))]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="folder of BASE-TASK.json files of study.py")
    parser.add_argument(
        "--out", type=Path, required=True, help="the picture, without suffix: .png and .svg are written"
    )
    arguments = parser.parse_args()
    curves = {task: read_curves(arguments.results, task) for task in TASKS}
    found = {task: some for task, some in curves.items() if some}
    if not found:
        sys.exit(f"{arguments.results} holds no study called BASE-TASK.json of {', '.join(TASKS)}; run study.py first")
    save_plot(found, arguments.out)


def read_curves(results: Path, task: str) -> list[Curve]:
    """The curves of a task whose studies have an unpruned run and a walk or straight runs."""
    files = {base: results / f"{base}-{task}.json" for base in BASES}
    rows = {
        base: json.loads(path.read_text(encoding="utf-8"))["rows"] for base, path in files.items() if path.is_file()
    }
    kinds = list(product((WALK, STARTED), (False, True)))
    found = [Curve(base, *kind, gains(some, *kind)) for base, some in rows.items() for kind in kinds]
    return [curve for curve in found if curve.points]


def gains(rows: list[dict[str, Any]], walk: str, straight: bool) -> dict[float, list[float]]:
    """Points over the unpruned run of the same seed, by the share that was asked for.

    Of every level of a walk; or, if straight, of the runs that are called after the walk and their one share.
    """
    unpruned = {row["seed"]: row["metric"] for row in rows if row["run"] == UNPRUNED}
    points: dict[float, list[float]] = {}
    for row in rows:
        run, _, level = row["run"].partition("@")
        if level and run == (f"{walk}-{float(level) * 100:.0f}" if straight else walk) and row["seed"] in unpruned:
            points.setdefault(float(level), []).append(
                gain(row["metric_name"], row["metric"], unpruned[row["seed"]])
            )  # fmt: skip
    return points


def save_plot(curves: dict[str, list[Curve]], stem: Path) -> None:
    """Write `<stem>.png` and `<stem>.svg`."""
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(figsize=(PANEL_INCHES[0] * len(curves), PANEL_INCHES[1]), layout="constrained")
        for axes, (task, some) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
            draw(axes, task, some)
        drawn = [curve for some in curves.values() for curve in some]
        bases = {curve.base for curve in drawn}
        keys = [Key("dot", colour, name) for base, (name, colour) in BASES.items() if base in bases]
        kinds = {(curve.run, curve.straight) for curve in drawn}
        keys += [key for kind, key in KINDS.items() if kind in kinds]
        words = (
            "points of accuracy, Matthews or Spearman over LoRA alone; small marks are seeds; a walk's first levels "
            "have had the fewest steps (see the studies' tables); checkpoints were chosen by the rows that are plotted"
        )
        add_margin(figure, [("gained", words)], (*keys, Key("square", "padding", "stated in the paper")))
        save_figure(figure, stem)


def draw(axes: Axes, task: str, curves: list[Curve]) -> None:
    """One panel."""
    from matplotlib.ticker import PercentFormatter

    axes.axhline(0.0, linewidth=0.8, color=PALETTE["muted"], zorder=1)
    for curve in curves:
        colour = PALETTE[BASES[curve.base][1]]
        if curve.straight:
            axes.plot(
                *zip(*curve.means()[1:], strict=True), linestyle="none", marker="D" if curve.run == STARTED else "o",
                markersize=7, markerfacecolor="none", markeredgewidth=1.6, color=colour, zorder=6,
            )  # fmt: skip
        else:
            axes.plot(
                *zip(*curve.means(), strict=True), marker="o", markersize=6, linewidth=1.6, color=colour, zorder=4,
                linestyle=(0, (4, 3)) if curve.run == STARTED else "-",
            )  # fmt: skip
        for share, some in curve.points.items():
            if len(some) > 1:
                axes.plot([share] * len(some), some, linestyle="none", marker=".", markersize=5, color=colour, zorder=3)
    share, points = STATED[task]
    axes.plot([share], [points], linestyle="none", marker="s", markersize=6, color=PALETTE["padding"], zorder=5)
    axes.set_xlim(*SHARES)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("removed")
    axes.set_ylabel("points over the unpruned model")
    axes.set_title(TASKS[task])


if __name__ == "__main__":
    main()
