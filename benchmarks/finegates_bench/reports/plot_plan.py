"""The plan as a picture: the rest of every layer's heads and neurons, a panel per model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finegates_bench.measuring.export_facts import LayerWidths
from finegates_bench.measuring.results import BenchReport
from finegates_bench.reports.plot_style import PALETTE, Key
from finegates_bench.reports.report_tables import planned_models
from finegates_export.common.words import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMN = 0.82
"""Width of a layer's column; the next layer starts 1 further right."""
LOWER, UPPER = 0.0, 1.3
"""Positions of the neurons' and the heads' columns; both are 1 high."""
MOST_BLOCKS = 16
"""Maximum heads per layer drawn as separate blocks."""


def draw_plan(axes: Axes, report: BenchReport, model_id: str) -> None:
    """Two columns per layer: heads above, neurons below, with kept dead ones on top of each."""
    model = next(model for model in report.models if model.id == model_id)
    layers = model.export.layers
    heads, neurons = max(layer.heads_before for layer in layers), max(layer.neurons_before for layer in layers)
    for layer in layers:
        _column(axes, layer.layer, UPPER, layer.attention_share, layer.attention_padding_share, "heads", _blocks(layer))
        _column(axes, layer.layer, LOWER, layer.neuron_share, layer.neuron_padding_share, "neurons", 1)
    right = len(layers) - 1 + COLUMN / 2
    for base, share in (
        (UPPER, sum(layer.attention_share for layer in layers) / len(layers)),
        (LOWER, sum(layer.neuron_share for layer in layers) / len(layers)),
    ):
        axes.annotate(
            f"{share:.0%}\nleft", (right, base + 0.5), xytext=(6, 0), textcoords="offset points", va="center",
            fontsize=8, annotation_clip=False,
        )  # fmt: skip
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xlim(-0.5, right)
    axes.set_ylim(LOWER, UPPER + 1)
    axes.set_xticks(_shown(len(layers)))
    axes.set_yticks([UPPER + 0.5, LOWER + 0.5], [f"{heads}\nheads", f"{neurons:,}\nneurons"])
    axes.tick_params(length=0)
    axes.set_xlabel("layer")
    axes.set_title(one_line(model.label))


def plan_panels(report: BenchReport) -> tuple[str, ...]:
    """The models to draw."""
    return tuple(model.id for model in planned_models(report))


def plan_keys(_report: BenchReport) -> tuple[Key, ...]:
    """The legend of colours."""
    return (
        Key("block", "heads", "heads that stay"),
        Key("block", "neurons", "neurons that stay"),
        Key("block", "padding", "padding: dead, but stays so that widths fit"),
        Key("block", "gone", "removed"),
    )


def _column(axes: Axes, x: int, base: float, share: float, padding: float, role: str, blocks: int) -> None:
    axes.bar(x, 1.0, COLUMN, base, color=PALETTE["gone"])
    for block in range(blocks):
        axes.bar(
            x, share / blocks, COLUMN, base + block * share / blocks, color=PALETTE[role],
            edgecolor=PALETTE["paper"], linewidth=0.5 if blocks > 1 else 0.0,
        )  # fmt: skip
    if padding:
        axes.bar(x, padding, COLUMN, base + share - padding, color=PALETTE["padding"])


def _blocks(layer: LayerWidths) -> int:
    return layer.heads if layer.heads_before <= MOST_BLOCKS else min(layer.heads, 1)


def _shown(layers: int) -> range:
    """Layer numbers spaced so that they do not overlap."""
    return range(0, layers, 1 if layers <= 12 else 2 if layers <= 24 else 4)
