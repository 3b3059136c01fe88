"""The fresh process that times single linears: onnxruntime and numpy, nothing else.

    python -m finegates_export.measure.cost_worker SPEC.json RESULT.json

It imports neither torch nor onnx, whose threads and memory would be measured along.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finegates_export.measure.statistics import median_interval, ratio_interval
from finegates_export.measure.timer import Budget, time_interleaved
from finegates_export.options import Options

FIRST_ROUNDS = 16
WARMUP_ROUNDS = 3


@dataclass(frozen=True)
class CostSpec(Options):
    """What one process times, and when it may stop."""

    graphs: tuple[str, ...]
    """ONNX files with one input `x`."""
    tokens: tuple[int, ...]
    """Of each graph's input."""
    widths: tuple[int, ...]
    """Of each graph's input."""
    threads: int
    first: tuple[int, ...] = ()
    """Graphs, by number, whose summed time `second` is compared with; empty where each stands for itself."""
    second: tuple[int, ...] = ()
    precision: float = 0.02
    """Rounds go on until the half width of every interval is under this share of its median ..."""
    seconds: float = 5.0
    """... or the time is over."""
    seed: int = 0


def main() -> None:
    """Read the spec named by the first argument, write nanoseconds by graph and round to the second."""
    spec_file, result_file = map(Path, sys.argv[1:3])
    spec = CostSpec.from_json(json.loads(spec_file.read_text(encoding="utf-8")))
    result_file.write_text(json.dumps(time_graphs(spec)), encoding="utf-8")


def time_graphs(spec: CostSpec) -> list[list[int]]:
    """Nanoseconds of every graph in every round, all sessions open at once and run in turns."""
    generator = np.random.default_rng(spec.seed)
    calls = {str(number): _call(spec, number, generator) for number in range(len(spec.graphs))}
    times: list[list[int]] = [[] for _ in calls]
    started = time.perf_counter()
    batch = FIRST_ROUNDS
    while batch > 0:
        done = len(times[0])
        fresh = time_interleaved(calls, Budget(batch, 0.0, 0 if done else WARMUP_ROUNDS), spec.seed + done)
        for number, rounds in enumerate(times):
            rounds.extend(fresh[str(number)])
        done += batch
        elapsed = time.perf_counter() - started
        affordable = int((spec.seconds - elapsed) / elapsed * done)
        batch = 0 if _precise(spec, times) else min(done, affordable)
    return times


def _precise(spec: CostSpec, times: list[list[int]]) -> bool:
    if spec.first:
        intervals = [ratio_interval(times, spec.second, spec.first)]
    else:
        intervals = [median_interval(rounds) for rounds in times]
    return all(interval.relative_half_width < spec.precision for interval in intervals)


def _call(spec: CostSpec, number: int, generator: np.random.Generator) -> Callable[[], Any]:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = spec.threads
    settings.inter_op_num_threads = 1
    # Else a session's idle threads would go on spinning into the next graph's turn.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(spec.graphs[number], settings, providers=["CPUExecutionProvider"])
    x_BSD = generator.standard_normal((1, spec.tokens[number], spec.widths[number]), np.float32)
    return lambda: session.run(None, {"x": x_BSD})


if __name__ == "__main__":
    main()
