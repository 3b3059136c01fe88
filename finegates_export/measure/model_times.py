"""From ONNX files of whole models to their times: all of them side by side in a fresh process."""

from __future__ import annotations

from pathlib import Path

from finegates_export.measure.fresh_process import run_fresh
from finegates_export.measure.model_worker import ModelSpec

WORKER = "finegates_export.measure.model_worker"


def time_models(spec: ModelSpec, folder: Path) -> dict[str, list[int]]:
    """Measure in a fresh process.

    Args:
        spec: what to measure.
        folder: where the two processes leave each other messages.

    Returns:
        Nanoseconds per round by model id; round i is the same round for all models.

    Raises:
        MeasurementError: the process failed.
    """
    what = f"measured {len(spec.graphs)} models at {spec.batch}x{spec.sequence}"
    times: dict[str, list[int]] = run_fresh(
        WORKER, spec.to_json(), folder, what, "measure fewer models at once, or a smaller shape"
    )
    return times
