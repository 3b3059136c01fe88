"""A measurement in a fresh process: its spec goes in as a file, and its result comes back as a file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finegates_export.errors import MeasurementError


def run_fresh(worker: str | Path, spec: Mapping[str, object], folder: Path, what: str, remedy: str) -> Any:
    """Run a module that reads the spec named by its first argument and writes its result to the second.

    Args:
        worker: the module, or the file of a script.
        spec: what to measure, as JSON types.
        folder: where the two processes exchange files.
        what: what the process did, for the error message.
        remedy: the remedy, for the error message.

    Returns:
        The result, from JSON.

    Raises:
        MeasurementError: the process failed.
    """
    spec_file, result_file = folder / "spec.json", folder / "result.json"
    spec_file.write_text(json.dumps(spec), encoding="utf-8")
    result_file.unlink(missing_ok=True)
    program = ["-m", worker] if isinstance(worker, str) else [str(worker)]
    command = [sys.executable, *program, str(spec_file), str(result_file)]
    finished = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if finished.returncode or not result_file.is_file():
        last_words = finished.stderr.strip().splitlines()[-1:] or ["without output; out of memory?"]
        raise MeasurementError(
            f"the process that {what} ended with status {finished.returncode} ({last_words[0]}); {remedy}"
        )
    return json.loads(result_file.read_text(encoding="utf-8"))
