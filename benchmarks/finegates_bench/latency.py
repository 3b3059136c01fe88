"""From rounds to timings: medians and bootstrap intervals, with the work that a plan left beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finegates_bench.results import Timing
from finegates_export.measure.shapes import Shape
from finegates_export.plan import ShrinkPlan

NANOSECONDS_PER_MS = 1e6
BOOTSTRAP_DRAWS = 1000
INTERVAL = (2.5, 97.5)
"""Percentiles of the drawn ratios: 95 % lie between them."""


@dataclass(frozen=True)
class Summary:
    """Rounds of one model against the unpruned model's, in milliseconds."""

    rounds: int
    p50_ms: float
    p95_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float


def summarize(times_ns: Sequence[int], reference_ns: Sequence[int], seed: int = 0) -> Summary:
    """Median, 95th percentile, and the ratio of medians with its bootstrap 95 % interval.

    Rounds are drawn as pairs, so what slowed both models in a round does not widen the interval.

    Args:
        times_ns: nanoseconds per round of the model.
        reference_ns: nanoseconds of the unpruned model in the same rounds.
        seed: of the bootstrap.
    """
    times, reference = np.asarray(times_ns, np.float64), np.asarray(reference_ns, np.float64)
    generator = np.random.default_rng(seed)
    drawn = np.empty(BOOTSTRAP_DRAWS)
    for i in range(BOOTSTRAP_DRAWS):
        rounds = generator.integers(0, len(times), len(times))
        drawn[i] = np.median(times[rounds]) / np.median(reference[rounds])
    low, high = np.percentile(drawn, INTERVAL)
    return Summary(
        rounds=len(times),
        p50_ms=float(np.median(times)) / NANOSECONDS_PER_MS,
        p95_ms=float(np.percentile(times, 95)) / NANOSECONDS_PER_MS,
        ratio=float(np.median(times) / np.median(reference)),
        ratio_low=float(low),
        ratio_high=float(high),
    )


def make_timing(summary: Summary, plan: ShrinkPlan, shape: Shape) -> Timing:
    """A summary together with the work that the plan left at this shape."""
    seconds = summary.p50_ms / 1e3
    return Timing(
        shape=str(shape),
        rounds=summary.rounds,
        p50_ms=summary.p50_ms,
        p95_ms=summary.p95_ms,
        rows_per_second=shape.batch / seconds,
        ratio=summary.ratio,
        ratio_low=summary.ratio_low,
        ratio_high=summary.ratio_high,
        kept_flops=plan.kept_flops(shape.batch, shape.sequence),
        gflop_per_second=plan.flops(shape.batch, shape.sequence) / 1e9 / seconds,
    )
