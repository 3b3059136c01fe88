"""Whether a device computes what the processor does: the same graph on both, on the inputs of the chain of checks."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from finegates_export.errors import ChainError

if TYPE_CHECKING:
    from finegates_export.verification.inputs import Batch

LARGEST_DIFFERENCE = 1e-2
"""Of an output's scale: what graphs in floats may differ by. Float16 sums in another order differ by some 1e-3."""
QUERY = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")


def difference_from_processor(graph: Path, batches: Sequence[Batch], threads: int, provider: str) -> float:
    """The largest difference of any output, over its scale on the processor.

    Args:
        graph: the ONNX file.
        batches: what both read.
        threads: the processor's.
        provider: the device's, see `SessionOptions`.

    Raises:
        UnsupportedError: the provider is not there, or does not start.
    """
    from finegates_export.verification.forms import onnx_form

    here, there = onnx_form(graph, threads=threads), onnx_form(graph, threads=threads, provider=provider)
    differences: dict[str, float] = {}
    scales: dict[str, float] = {}
    for batch in batches:
        expected, found = here(batch.inputs), there(batch.inputs)
        for name, array in expected.items():
            # numpy's maximum keeps a NaN, which then is over every limit
            differences[name] = float(np.maximum(differences.get(name, 0.0), np.abs(found[name] - array).max()))
            scales[name] = max(scales.get(name, 0.0), float(np.abs(array).max()))
    smallest = float(np.finfo(np.float32).tiny)
    return float(np.max([differences[name] / max(scales[name], smallest) for name in differences]))


def check_difference(label: str, difference: float, provider: str) -> None:
    """Refuse to report the speed of a device that computes something else.

    Raises:
        ChainError: it differs by more than `LARGEST_DIFFERENCE`.
    """
    if not difference <= LARGEST_DIFFERENCE:
        raise ChainError(
            f"{label}: the {provider} provider's outputs differ from the processor's by {difference:.1e} of their "
            f"scale, more than {LARGEST_DIFFERENCE:g}; update onnxruntime and the driver, or use --provider cpu"
        )


def accelerator_name() -> str:
    """The first GPU's name; empty where no driver says one."""
    try:
        told = subprocess.run(QUERY, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return told.splitlines()[0].strip() if told.strip() else ""
