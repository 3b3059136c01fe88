"""At which widths a layer's halves are measured."""

from __future__ import annotations

from finegates_export.targets.layer_shapes import AttentionShape

HEAD_KNOTS = 4
DIM_KNOTS = 4
NEURON_KNOTS = 16
STEP = 16
"""Neurons are measured at multiples of it: matrix kernels work in strips so wide."""


def attention_knots(whole: AttentionShape) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Numbers of heads, and dims of a head: one, all, and some between, a narrow one more among the dims."""
    pair = 2 if whole.style == "rotary" else 1
    heads = _spread(whole.all_heads, HEAD_KNOTS)
    dims = {pair, *(pair * max(1, round(whole.head_dim * part / pair)) for part in (0.25, 0.5, 1.0))}
    return heads, tuple(sorted(dims))


def neuron_knots(neurons: int) -> tuple[int, ...]:
    """Numbers of neurons: one strip or less, all, and even steps between."""
    steps = {round(neurons * part / NEURON_KNOTS / STEP) * STEP for part in range(1, NEURON_KNOTS)}
    return tuple(sorted({min(STEP, neurons), *(step for step in steps if 0 < step < neurons), neurons}))


def _spread(top: int, count: int) -> tuple[int, ...]:
    """One, all, and even steps between."""
    return tuple(sorted({1, *(max(1, round(top * part / (count - 1))) for part in range(1, count))}))
