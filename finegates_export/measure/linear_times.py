"""From shapes of linears to their times: graphs of the target, timed side by side in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from finegates_export.errors import MeasurementError
from finegates_export.measure.cost_worker import CostSpec
from finegates_export.targets.linear_shape import LinearShape

WORKER = "finegates_export.measure.cost_worker"


@dataclass(frozen=True)
class Precision:
    """When a measurement may stop."""

    half_width: float = 0.02
    """The half width of every 95 % interval is under this share of its median ..."""
    seconds: float = 5.0
    """... or so many seconds are over; the first sixteen rounds are always finished."""


@dataclass(frozen=True)
class Question:
    """What is measured together."""

    shapes: tuple[LinearShape, ...]
    target: str
    threads: int
    precision: Precision
    first: tuple[int, ...] = ()
    """Shapes, by number, whose summed time that of `second` is compared with; empty: each stands for itself."""
    second: tuple[int, ...] = ()


class Measurer(Protocol):
    """Answers a question."""

    def __call__(self, question: Question) -> Sequence[Sequence[float]]:
        """Nanoseconds of one linear, by shape and round; round i is the same round for all shapes."""


def measure_linears(question: Question) -> list[list[float]]:
    """Time the shapes in a process of their own.

    Args:
        question: what to measure, and how well.

    Raises:
        MeasurementError: the process failed.
    """
    from finegates_export.targets import TARGETS

    target = TARGETS[question.target]
    shapes = question.shapes
    with tempfile.TemporaryDirectory(prefix="finegates-costs-") as name:
        folder = Path(name)
        files = [folder / f"{number}.onnx" for number in range(len(shapes))]
        for number, (file, shape) in enumerate(zip(files, shapes, strict=True)):
            file.write_bytes(target.linear_graph(shape, seed=number))
        spec = CostSpec(
            tuple(map(str, files)),
            tuple(shape.tokens for shape in shapes),
            tuple(shape.width_in for shape in shapes),
            question.threads,
            question.first,
            question.second,
            question.precision.half_width,
            question.precision.seconds,
        )
        times = _run_worker(spec, folder)
    return [[time / shape.copies for time in rounds] for rounds, shape in zip(times, shapes, strict=True)]


def _run_worker(spec: CostSpec, folder: Path) -> list[list[int]]:
    spec_file, result_file = folder / "spec.json", folder / "result.json"
    spec_file.write_text(json.dumps(spec.to_json()), encoding="utf-8")
    command = [sys.executable, "-m", WORKER, str(spec_file), str(result_file)]
    finished = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if finished.returncode or not result_file.is_file():
        last_words = finished.stderr.strip().splitlines()[-1:] or ["it said nothing; out of memory?"]
        raise MeasurementError(
            f"the process that timed {len(spec.graphs)} linears of up to {max(spec.tokens):,} tokens ended with status "
            f"{finished.returncode} ({last_words[0]}); install onnxruntime if it is missing, or measure fewer tokens"
        )
    times: list[list[int]] = json.loads(result_file.read_text(encoding="utf-8"))
    return times
