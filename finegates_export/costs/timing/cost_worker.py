"""The fresh process that times single blocks: only onnxruntime and numpy.

    python -m finegates_export.costs.timing.cost_worker SPEC.json RESULT.json

It imports neither torch nor onnx, whose threads and memory would distort the measurement.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from finegates_export.common.options import Options
from finegates_export.costs.timing.sessions import resting_session
from finegates_export.costs.timing.statistics import median_interval, ratio_interval
from finegates_export.costs.timing.timer import Budget, time_interleaved, time_until

FIRST_ROUNDS = 16
WARMUP_ROUNDS = 2
MOST_TURNS = 4
"""Runs of a short graph in a round."""

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CostSpec(Options):
    """What one process times, and when it may stop."""

    graphs: tuple[str, ...]
    """ONNX files whose inputs are float32."""
    inputs: tuple[dict[str, list[int]], ...]
    """The shapes of each graph's inputs, by name."""
    threads: int
    first: tuple[int, ...] = ()
    """Numbers of the graphs whose total time is compared with that of `second`; empty measures each on its own."""
    second: tuple[int, ...] = ()
    precision: float = 0.02
    """Rounds continue until the half width of every interval is below this share of its median ..."""
    seconds: float = 5.0
    """... or the time is over."""
    seed: int = 0


def main() -> None:
    """Read the spec named by the first argument, write nanoseconds by graph and round to the second."""
    spec_file, result_file = map(Path, sys.argv[1:3])
    spec = CostSpec.from_json(json.loads(spec_file.read_text(encoding="utf-8")))
    result_file.write_text(json.dumps(time_graphs(spec)), encoding="utf-8")


def time_graphs(spec: CostSpec) -> list[list[int]]:
    """Nanoseconds of every graph in every round, all sessions open at once and run in turns.

    Graphs measured on their own run more often per round the shorter they are, since interruptions affect short ones
    most; they then have more times than rounds.
    """
    inputs = _draw_inputs(spec)
    calls = [_call(spec, number, inputs) for number in range(len(spec.graphs))]
    turns = [1] * len(calls) if spec.first else _turns(calls)
    named = {f"{number}.{turn}": call for number, call in enumerate(calls) for turn in range(turns[number])}

    def by_graph(times: dict[str, list[int]]) -> list[list[int]]:
        return [
            [time for turn in range(turns[number]) for time in times[f"{number}.{turn}"]]
            for number in range(len(calls))
        ]

    def precise(times: dict[str, list[int]]) -> bool:
        return _precise(spec, by_graph(times))

    return by_graph(time_until(named, Budget(FIRST_ROUNDS, 0.0, WARMUP_ROUNDS), spec.seconds, precise, spec.seed))


def _turns(calls: list[Callable[[], object]]) -> list[int]:
    """Runs of each per round, from one timed run after a warm-up."""
    once = time_interleaved({str(number): call for number, call in enumerate(calls)}, Budget(1, 0.0, 1))
    times = np.array([once[str(number)][0] for number in range(len(calls))])
    return [int(turns) for turns in np.clip(times.mean() / times, 1, MOST_TURNS)]


def _precise(spec: CostSpec, times: list[list[int]]) -> bool:
    if spec.first:
        intervals = [ratio_interval(times, spec.second, spec.first)]
    else:
        intervals = [median_interval(rounds) for rounds in times]
    return all(interval.relative_half_width < spec.precision for interval in intervals)


def _draw_inputs(spec: CostSpec) -> dict[tuple[str, tuple[int, ...]], Array]:
    """One array per name and shape, shared by all graphs."""
    generator = np.random.default_rng(spec.seed)
    wanted = dict.fromkeys((name, tuple(dims)) for shapes in spec.inputs for name, dims in shapes.items())
    return {(name, dims): generator.standard_normal(dims, np.float32) for name, dims in wanted}


def _call(spec: CostSpec, number: int, inputs: dict[tuple[str, tuple[int, ...]], Array]) -> Callable[[], object]:
    session = resting_session(spec.graphs[number], spec.threads)
    feed = {name: inputs[name, tuple(dims)] for name, dims in spec.inputs[number].items()}
    return lambda: session.run(None, feed)


if __name__ == "__main__":
    main()
