"""From ONNX files to timings: a fresh process per shape, then medians and bootstrap intervals."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finegates_bench.results import Timing
from finegates_bench.shapes import Shape
from finegates_bench.worker import WorkerSpec
from finegates_export.errors import MeasurementError
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


def run_worker(spec: WorkerSpec, folder: Path) -> dict[str, list[int]]:
    """Measure in a fresh process.

    Args:
        spec: what to measure.
        folder: where the two processes leave each other messages.

    Returns:
        Nanoseconds per round by model id.

    Raises:
        MeasurementError: the process failed.
    """
    spec_file, result_file = folder / "spec.json", folder / "result.json"
    spec_file.write_text(json.dumps(spec.to_json()), encoding="utf-8")
    result_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "finegates_bench.worker", str(spec_file), str(result_file)]
    finished = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if finished.returncode or not result_file.is_file():
        last_words = finished.stderr.strip().splitlines()[-1:] or ["it said nothing; out of memory?"]
        raise MeasurementError(
            f"the process that measured {len(spec.graphs)} models at {spec.batch}x{spec.sequence} ended with status "
            f"{finished.returncode} ({last_words[0]}); measure fewer levels at once, or smaller --shapes"
        )
    times: dict[str, list[int]] = json.loads(result_file.read_text(encoding="utf-8"))
    return times


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
