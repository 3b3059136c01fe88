"""From ONNX files of whole models to their times: measured side by side in fresh processes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from finegates_export.costs.timing.fresh_process import run_fresh
from finegates_export.costs.timing.model_worker import ModelSpec

WORKER = "finegates_export.costs.timing.model_worker"

Rounds = dict[str, list[int]]
"""Nanoseconds per round by model id; round i is the same round for all models."""


def time_models(spec: ModelSpec, folder: Path) -> Rounds:
    """Measure in a fresh process.

    Args:
        spec: what to measure.
        folder: where the two processes exchange files.

    Raises:
        MeasurementError: the process failed.
    """
    what = f"measured {len(spec.graphs)} models at {spec.batch}x{spec.sequence}"
    times: Rounds = run_fresh(WORKER, spec.to_json(), folder, what, "measure fewer models at once, or a smaller shape")
    return times


def time_in_processes(spec: ModelSpec, folder: Path, processes: int) -> list[Rounds]:
    """Measure in several fresh processes, one after the other, which share the budget.

    Processes that time the same files differ by more than their rounds suggest. More rounds do not show this; more
    processes do.

    Args:
        spec: what to measure.
        folder: see `time_models`.
        processes: their number.

    Returns:
        The rounds of each process.

    Raises:
        MeasurementError: a process failed.
    """
    share = spec.budget.shared(processes)
    specs = [dataclasses.replace(spec, budget=share, seed=spec.seed + number) for number in range(processes)]
    return [time_models(each, folder) for each in specs]
