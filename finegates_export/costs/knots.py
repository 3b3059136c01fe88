"""The widths at which a layer's halves are measured."""

from __future__ import annotations

from collections.abc import Iterable

from finegates_export.costs.blocks.layer_shapes import AttentionShape
from finegates_export.graphs.passes.packing import STRIP

HEAD_KNOTS = 3
DIM_PARTS = (0.125, 0.25, 0.5, 0.75, 1.0)
STAIR = 4
"""The cost of a head's dims rises in steps, the highest after multiples of 8 and 16: from 8 to 9 dims by twice the mean
step. Knots lie on both sides of some steps."""
NEURON_KNOTS = 16
OFF_STRIP = 9
"""Kernels are a few per cent faster at multiples of 16 columns. Few widths are, and knots represent the widths around
them."""


def head_knots(whole: AttentionShape) -> tuple[int, ...]:
    """Numbers of heads: one, all, and even steps in between."""
    return _ascending(whole.all_heads * part / (HEAD_KNOTS - 1) for part in range(HEAD_KNOTS))


def dim_knots(whole: AttentionShape) -> tuple[int, ...]:
    """Dims per head: one, all, and both sides of some steps in between."""
    step = 2 if whole.style == "rotary" else 1
    edges = [round(whole.head_dim * part / STAIR) * STAIR for part in DIM_PARTS]
    inside = [dims for edge in edges for dims in (edge, edge + step) if step < dims < whole.head_dim]
    return _ascending((step, *inside, whole.head_dim))


def packed_knots(whole: AttentionShape) -> tuple[int, ...]:
    """Dims per head if Q, K and V are packed: multiples of 16, and all."""
    return _ascending((*range(STRIP, whole.head_dim, STRIP), whole.head_dim))


def neuron_knots(neurons: int) -> tuple[int, ...]:
    """Numbers of neurons: a few, all, and even steps in between that are not multiples of 16."""
    steps = (neurons * part / NEURON_KNOTS // STRIP * STRIP + OFF_STRIP for part in range(NEURON_KNOTS))
    return _ascending((*(step for step in steps if step < neurons), neurons))


def _ascending(sizes: Iterable[float]) -> tuple[int, ...]:
    return tuple(sorted({max(1, round(size)) for size in sizes}))
