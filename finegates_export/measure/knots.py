"""At which widths a layer's halves are measured."""

from __future__ import annotations

from finegates_export.targets.layer_shapes import AttentionShape
from finegates_export.targets.packing import STRIP

HEAD_KNOTS = 4
DIM_KNOTS = 4
NEURON_KNOTS = 16


def attention_knots(whole: AttentionShape) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Numbers of heads, and dims of a head: one, all, and some between, a narrow one more among the dims."""
    pair = 2 if whole.style == "rotary" else 1
    heads = _spread(whole.all_heads, HEAD_KNOTS)
    dims = {pair, *(pair * max(1, round(whole.head_dim * part / pair)) for part in (0.25, 0.5, 1.0))}
    return heads, tuple(sorted(dims))


def packed_knots(whole: AttentionShape) -> tuple[int, ...]:
    """Dims of a head where Q, K and V are packed: whole strips, and all of them."""
    return tuple(sorted({*range(STRIP, whole.head_dim, STRIP), whole.head_dim}))


def neuron_knots(neurons: int) -> tuple[int, ...]:
    """Numbers of neurons: one strip or less, all, and even steps between."""
    steps = {round(neurons * part / NEURON_KNOTS / STRIP) * STRIP for part in range(1, NEURON_KNOTS)}
    return tuple(sorted({min(STRIP, neurons), *(step for step in steps if 0 < step < neurons), neurons}))


def _spread(top: int, count: int) -> tuple[int, ...]:
    """One, all, and even steps between."""
    return tuple(sorted({1, *(max(1, round(top * part / (count - 1))) for part in range(1, count))}))
