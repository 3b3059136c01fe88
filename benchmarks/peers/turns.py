"""All models in turns, whatever their runtime: every runtime is a process of its own that waits between its turns."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from finegates_export.common.shapes import Shape
from finegates_export.common.telemetry import SWITCHES
from finegates_export.costs.timing.timer import Budget
from finegates_export.errors import MeasurementError

WORKER = Path(__file__).parent / "turn_worker.py"
READY = "ready"


@dataclass(frozen=True)
class Hall:
    """The models of one runtime, and the interpreter that has it."""

    runtime: str
    interpreter: str
    models: dict[str, Any]
    """What the worker builds each from, by id."""
    environment: dict[str, str]
    """Variables of the process."""


class Process:
    """A runtime's process.

    Args:
        hall: what it holds.
        shape: of its inputs, which lie in `folder`.
        folder: where its spec and its words go.
        threads: of every model.
    """

    def __init__(self, hall: Hall, shape: Shape, folder: Path, threads: int) -> None:
        self.hall, self.words = hall, folder / f"{hall.runtime}-{shape}.log"
        spec = folder / f"{hall.runtime}-{shape}.json"
        inputs = folder / f"{shape}.npz"
        told = {"runtime": hall.runtime, "threads": threads, "inputs": str(inputs), "models": hall.models}
        spec.write_text(json.dumps(told), encoding="utf-8")
        # Threads of OpenMP would go on spinning into the next model's turn.
        variables = {**hall.environment, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": str(threads)}
        with self.words.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [hall.interpreter, str(WORKER), str(spec)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1, env=variables,
            )  # fmt: skip

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.stdin:
            self.process.stdin.close()
        self.process.wait()

    def wait_until_ready(self) -> None:
        """Until all its models are loaded.

        Raises:
            MeasurementError: it died.
        """
        self._answer(READY)

    def run(self, model: str) -> int:
        """Nanoseconds of one run of a model.

        Raises:
            MeasurementError: the process died.
        """
        try:
            if self.process.stdin:
                self.process.stdin.write(f"{model}\n")
        except BrokenPipeError as error:
            raise self._dead() from error
        return int(self._answer())

    def _answer(self, expected: str | None = None) -> str:
        line = self.process.stdout.readline().strip() if self.process.stdout else ""
        if not line or expected not in (None, line):
            raise self._dead()
        return line

    def _dead(self) -> MeasurementError:
        self.process.kill()
        last = self.words.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        said = last[0] if last else "it said nothing; out of memory?"
        return MeasurementError(f"the process that times {self.hall.runtime} died ({said}); measure fewer models")


def time_in_turns(
    halls: list[Hall], shape: Shape, vocabulary: int, folder: Path, threads: int, budget: Budget, seed: int = 0
) -> dict[str, list[int]]:
    """Run every model once a round, in an order drawn afresh each round, one at a time on the whole machine.

    Args:
        halls: all models, by runtime.
        shape: of the inputs: random ids, every token attended to, one segment.
        vocabulary: ids lie below it.
        folder: where the processes' files go.
        threads: of every model.
        budget: how many rounds, for how long.
        seed: of ids and orders.

    Returns:
        Nanoseconds of every model, by id; position i is round i for all of them.

    Raises:
        MeasurementError: a process died.
    """
    generator = np.random.default_rng(seed)
    size = (shape.batch, shape.sequence)
    ids = generator.integers(0, vocabulary, size)
    np.savez(
        folder / f"{shape}.npz", input_ids=ids, attention_mask=np.ones_like(ids), token_type_ids=np.zeros_like(ids)
    )
    with ExitStack() as stack:
        processes = [stack.enter_context(Process(hall, shape, folder, threads)) for hall in halls]
        for process in processes:
            process.wait_until_ready()
        owners = {model: process for process in processes for model in process.hall.models}
        return _rounds({model: _turn(process, model) for model, process in owners.items()}, budget, generator)


def clean_environment(*, own: bool) -> dict[str, str]:
    """What a peer's process inherits: in an environment of its own nothing of this one's module paths."""
    kept = {name: value for name, value in os.environ.items() if own or name not in ("PYTHONPATH", "PYTHONHOME")}
    return {**SWITCHES, **kept, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def _turn(process: Process, model: str) -> Callable[[], int]:
    return lambda: process.run(model)


def _rounds(
    calls: dict[str, Callable[[], int]], budget: Budget, generator: np.random.Generator
) -> dict[str, list[int]]:
    names = list(calls)
    times: dict[str, list[int]] = {name: [] for name in names}
    end, done = time.monotonic() + budget.seconds, -budget.warmup
    while done < budget.rounds or time.monotonic() < end:
        for i in generator.permutation(len(names)):
            taken = calls[names[i]]()
            if done >= 0:
                times[names[i]].append(taken)
        done += 1
    return times
