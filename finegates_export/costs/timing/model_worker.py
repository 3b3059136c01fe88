"""The fresh process that times whole models at one input shape: only onnxruntime and numpy.

    python -m finegates_export.costs.timing.model_worker SPEC.json RESULT.json

It imports neither torch nor transformers, whose threads and memory would distort the measurement.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from finegates_export.common.cache_layout import MASK, PAST, POSITIONS
from finegates_export.costs.timing.sessions import resting_session
from finegates_export.costs.timing.statistics import ratio_interval
from finegates_export.costs.timing.timer import Budget, time_interleaved, time_until

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Array = npt.NDArray[np.int64] | npt.NDArray[np.float32]


@dataclass(frozen=True)
class ModelSpec:
    """The work of one process."""

    graphs: dict[str, str]
    """ONNX files by model id."""
    batch: int
    sequence: int
    vocab_size: int
    """Exclusive upper bound of random token ids."""
    threads: int
    seed: int
    budget: Budget
    provider: str = "cpu"
    """The provider; see `SessionOptions`."""
    reference: str = ""
    """The model that all others are compared with; without one, the whole budget is used."""
    past: int = 0
    """Cached tokens per row of a decoder, before those of `sequence`."""
    repeat: int = 1
    """Runs of a model in its turn: the first finds the CPU caches as another model left them."""
    half_width: float = 0.01
    """With a reference, the budget gives the least rounds and the most seconds; rounds continue until the half width of
    every ratio's 95 % interval is below this share of the ratio."""

    def to_json(self) -> dict[str, object]:
        """As JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ModelSpec:
        """Rebuild from `to_json`."""
        return cls(**{**values, "budget": Budget(**values["budget"])})


def main() -> None:
    """Read the spec named by the first argument, write nanoseconds by model id to the second."""
    spec_file, result_file = map(Path, sys.argv[1:3])
    spec = ModelSpec.from_json(json.loads(spec_file.read_text(encoding="utf-8")))
    result_file.write_text(json.dumps(measure_shape(spec)), encoding="utf-8")


def measure_shape(spec: ModelSpec) -> dict[str, list[int]]:
    """Nanoseconds of every model's turn in every round, all sessions open at once."""
    sessions = {name: resting_session(path, spec.threads, spec.provider) for name, path in spec.graphs.items()}
    calls = {name: _call(session, _inputs(session, spec), spec.repeat) for name, session in sessions.items()}
    if not spec.reference:
        return time_interleaved(calls, spec.budget, spec.seed)
    first = Budget(spec.budget.rounds, 0.0, spec.budget.warmup)
    return time_until(calls, first, spec.budget.seconds, lambda times: _precise(spec, times), spec.seed)


def _precise(spec: ModelSpec, times: dict[str, list[int]]) -> bool:
    reference = times[spec.reference]
    others = [rounds for name, rounds in times.items() if name != spec.reference]
    return all(ratio_interval([rounds, reference], [0], [1]).relative_half_width < spec.half_width for rounds in others)


def _inputs(session: InferenceSession, spec: ModelSpec) -> dict[str, Array]:
    """Random ids, every token attended to, one segment, or random pixels; the same for every model.

    A cache is filled with random keys and values of the model's widths.
    """
    shape = (spec.batch, spec.sequence)
    generator = np.random.default_rng(spec.seed)
    floats = {value.name: value.shape for value in session.get_inputs() if value.type == "tensor(float)"}
    images = {name: sizes[1:] for name, sizes in floats.items() if not name.startswith(PAST)}
    if images:
        return {name: generator.random((spec.batch, *size), np.float32) for name, size in images.items()}
    made: dict[str, Array] = {
        "input_ids": generator.integers(0, spec.vocab_size, shape),
        MASK: np.ones((spec.batch, spec.past + spec.sequence), np.int64),
        POSITIONS: np.tile(np.arange(spec.past, spec.past + spec.sequence), (spec.batch, 1)),
    }
    for name, (_, heads, _, width) in floats.items():
        made[name] = generator.standard_normal((spec.batch, heads, spec.past, width), np.float32)
    return {value.name: made.get(value.name, np.zeros(shape, np.int64)) for value in session.get_inputs()}


def _call(session: InferenceSession, inputs: dict[str, Array], repeat: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(repeat):
            session.run(None, inputs)

    return run


if __name__ == "__main__":
    main()
