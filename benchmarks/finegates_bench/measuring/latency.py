"""From rounds to timings: medians and bootstrap intervals, with the work that a plan left beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finegates_bench.measuring.results import Timing
from finegates_export.common.shapes import Shape
from finegates_export.costs.timing.statistics import process_ratio
from finegates_export.pruning.plan import ShrinkPlan

NANOSECONDS_PER_MS = 1e6


@dataclass(frozen=True)
class Summary:
    """Rounds of one model against the unpruned model's, in milliseconds."""

    rounds: int
    p50_ms: float
    p95_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float


def summarize(times_ns: Sequence[Sequence[int]], reference_ns: Sequence[Sequence[int]], seed: int = 0) -> Summary:
    """Median and 95th percentile over all rounds, and the ratio to the reference; see `process_ratio`.

    Args:
        times_ns: one list a process, nanoseconds per round of the model.
        reference_ns: nanoseconds of the unpruned model in the same rounds.
        seed: of the bootstrap.
    """
    times = np.concatenate([np.asarray(rounds, np.float64) for rounds in times_ns])
    ratio = process_ratio(times_ns, reference_ns, seed)
    return Summary(
        rounds=len(times),
        p50_ms=float(np.median(times)) / NANOSECONDS_PER_MS,
        p95_ms=float(np.percentile(times, 95)) / NANOSECONDS_PER_MS,
        ratio=ratio.median,
        ratio_low=ratio.low,
        ratio_high=ratio.high,
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
