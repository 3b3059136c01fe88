"""From shapes of blocks to their times: graphs of the target, timed side by side in a fresh process."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from finegates_export.costs.blocks.block_shape import BlockShape
from finegates_export.costs.timing.cost_worker import CostSpec
from finegates_export.costs.timing.fresh_process import run_fresh

WORKER = "finegates_export.costs.timing.cost_worker"


@dataclass(frozen=True)
class Precision:
    """When a measurement may stop."""

    half_width: float = 0.02
    """The half width of every 95 % interval is below this share of its median ..."""
    seconds: float = 5.0
    """... or this many seconds are over; the first sixteen rounds are always finished."""


@dataclass(frozen=True)
class Question:
    """Blocks to measure together."""

    shapes: tuple[BlockShape, ...]
    target: str
    threads: int
    precision: Precision
    first: tuple[int, ...] = ()
    """Numbers of the shapes whose total time is compared with that of `second`; empty measures each on its own."""
    second: tuple[int, ...] = ()


class Measurer(Protocol):
    """Answers a question."""

    def __call__(self, question: Question) -> Sequence[Sequence[float]]:
        """Nanoseconds of one block, by shape and run; in comparisons, run i is in the same round for all."""


def measure_blocks(question: Question) -> list[list[float]]:
    """Time the shapes in a fresh process.

    Args:
        question: what to measure, and how precisely.

    Raises:
        MeasurementError: the process failed.
    """
    from finegates_export.costs.blocks.measured_targets import MEASURED_TARGETS

    target = MEASURED_TARGETS[question.target]
    shapes = question.shapes
    with tempfile.TemporaryDirectory(prefix="finegates-costs-") as name:
        folder = Path(name)
        files = [folder / f"{number}.onnx" for number in range(len(shapes))]
        for number, (file, shape) in enumerate(zip(files, shapes, strict=True)):
            file.write_bytes(target.block_graph(shape, seed=number))
        spec = CostSpec(
            tuple(map(str, files)),
            tuple({name: list(dims) for name, dims in shape.feeds.items()} for shape in shapes),
            question.threads,
            question.first,
            question.second,
            question.precision.half_width,
            question.precision.seconds,
        )
        what = f"timed {len(shapes)} blocks of up to {max(shape.tokens for shape in shapes):,} tokens"
        remedy = "install onnxruntime if it is missing, or measure fewer tokens"
        times: list[list[int]] = run_fresh(WORKER, spec.to_json(), folder, what, remedy)
    return [[time / shape.copies for time in rounds] for rounds, shape in zip(times, shapes, strict=True)]
