"""Latency across removed share, a panel per input shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finegates_bench.measuring.results import BenchReport, ModelResult
from finegates_bench.reports.plot_points import PRECISIONS, add_point, by_share, point_keys
from finegates_bench.reports.plot_style import PALETTE, Key

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MIDDLE = 0.6
"""Ratio below which another run's name is at the left of its line."""
LIMIT = "arithmetic limit (kept FLOPs)"


def draw_latency(axes: Axes, report: BenchReport, shape: str) -> None:
    """Ratio over removed share, with its interval, and the kept FLOPs as the arithmetic limit."""
    from matplotlib.ticker import PercentFormatter

    single = by_share(report, report.models[0].precision)
    axes.plot(
        [model.removed for model in single],
        [model.timing(shape).kept_flops for model in single],
        linestyle=(0, (4, 3)), linewidth=1.2, color=PALETTE["muted"], zorder=2,
    )  # fmt: skip
    for precision in PRECISIONS:
        models = by_share(report, precision)
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
            add_point(axes, model, model.removed, timing.ratio)
    for model in report.models:
        if model.kind == "other":
            _draw_level(axes, model, shape)
    axes.set_xlim(-0.03, max(0.5, max(model.removed for model in report.models) + 0.06))
    axes.set_ylim(0, max(1.1, 1.05 * max(model.timing(shape).ratio_high for model in report.models)))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("removed share of the layers' linear weights")
    axes.set_ylabel("latency / unpruned")
    axes.set_title(shape)


def _draw_level(axes: Axes, model: ModelResult, shape: str) -> None:
    """Another run's model has no removed share here: a line across, with its name."""
    ratio = model.timing(shape).ratio
    # Away from the run's own line, which falls from 1 at the left.
    side, towards, align = (0, 2, "left") if ratio < MIDDLE else (1, -2, "right")
    axes.axhline(ratio, linestyle=(0, (1, 2)), linewidth=1.2, color=PALETTE[model.precision], zorder=2)
    axes.annotate(
        model.label, (side, ratio), xycoords=("axes fraction", "data"), xytext=(towards, 3), textcoords="offset points",
        ha=align, va="bottom", fontsize=7, color=PALETTE[model.precision],
    )  # fmt: skip


def latency_keys(report: BenchReport) -> tuple[Key, ...]:
    """The legend of marks."""
    return (*point_keys(report.of_one_base), Key("dash", "muted", LIMIT))
