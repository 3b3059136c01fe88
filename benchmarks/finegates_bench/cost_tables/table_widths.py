"""Which blocks a cost table measures: a layer's halves along three lines, each with one width that varies.

Neurons; dims a head, Q/K and V/O alike, with all heads; heads, with all their dims. Attention is as the exporter would
write it: Q, K and V in one operator where that is the faster way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from finegates_export.costs.blocks.block_shape import BlockShape
from finegates_export.costs.blocks.layer_shapes import PACKING_STYLES, AttentionShape
from finegates_export.costs.knots import dim_knots, neuron_knots
from finegates_export.costs.layer_forms import LayerForm
from finegates_export.graphs.passes.packing import packs_well

Axis = Literal["neurons", "dims", "heads"]

MOST_HEADS = 16
"""Numbers of heads measured at most, unless consecutive ones are asked for."""


@dataclass(frozen=True, eq=False)
class WidthLine:
    """One half of a layer, by one of its widths."""

    axis: Axis
    blocks: Mapping[int, BlockShape]
    """By width, ascending; the last is the whole half."""
    empty: BlockShape
    """The half with nothing left: its residual sum and its norm."""
    dense: range
    """Consecutive widths among them."""


def width_lines(form: LayerForm, dense: int, around: float) -> tuple[WidthLine, ...]:
    """What is measured of layers of one form.

    Args:
        form: the unpruned halves.
        dense: how many consecutive widths of every kind are measured beside the knots.
        around: the middle of these, as a share of the whole width.
    """
    attention, network = form
    heads, head_dim, neurons = attention.all_heads, attention.head_dim, network.neurons
    pair = 2 if attention.style == "rotary" else 1
    few_heads = (round(heads * part / MOST_HEADS) for part in range(MOST_HEADS + 1))
    near = {
        "neurons": consecutive(neurons, dense, around),
        "dims": consecutive(head_dim, dense, around, pair),
        "heads": consecutive(heads, dense, around),
    }
    no_attention = replace(attention, heads=0)
    return (
        WidthLine(
            "neurons",
            {width: replace(network, neurons=width) for width in _widths(neuron_knots(neurons), near["neurons"])},
            replace(network, neurons=0),
            near["neurons"],
        ),
        WidthLine(
            "dims",
            {width: _as_written(attention, heads, width) for width in _widths(dim_knots(attention), near["dims"])},
            no_attention,
            near["dims"],
        ),
        WidthLine(
            "heads",
            {count: _as_written(attention, count, head_dim) for count in _widths(few_heads, near["heads"])},
            no_attention,
            near["heads"],
        ),
    )


def consecutive(whole: int, count: int, around: float, step: int = 1) -> range:
    """So many widths in a row, as near to a place as the whole width lets them be.

    Args:
        whole: the largest width.
        count: how many, or all there are.
        around: their middle, as a share of the whole.
        step: from one width to the next; the first of all widths.
    """
    count = min(count, whole // step)
    first = round(around * whole / step - (count - 1) / 2)
    first = min(max(first, 1), whole // step - count + 1)
    return range(first * step, (first + count) * step, step)


def _widths(knots: Iterable[int], dense: range) -> list[int]:
    return sorted({width for width in (*knots, *dense) if width > 0})


def _as_written(attention: AttentionShape, heads: int, dims: int) -> AttentionShape:
    packed = attention.style in PACKING_STYLES and bool(packs_well(heads, dims))
    return replace(attention, heads=heads, qk=dims, vo=dims, packed=packed)
