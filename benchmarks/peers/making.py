"""Every peer's script as a process in its own environment; what was made for the same inputs is not made again."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from registry import HERE, Peer
from turns import clean_environment

from finegates_export.common.files import sha256_file, staged_folder, write_json
from finegates_export.errors import MeasurementError
from finegates_export.sources.run_folder import RUN_JSON, Run

RECORD, INPUTS = "peer.json", "inputs.json"
LAST_LINES = 3


@dataclass(frozen=True)
class Job:
    """What all scripts are told; their command line is described in scripts/contract.py."""

    run: Run
    level: Run
    base: str
    small: str | None
    data: str
    rows: Path
    work: Path
    removed: float
    max_steps: int | None
    agreement: float
    metric_loss: float
    seed: int
    threads: int

    def settings(self) -> dict[str, Any]:
        """The numbers on the command line."""
        steps, most = (self.level.info.steps, self.run.info.steps), self.max_steps
        pruned, unpruned = (min(number, most) if most else number for number in steps)
        return {
            "removed": self.removed,
            "steps": pruned,
            "unpruned-steps": unpruned,
            "agreement": self.agreement,
            "metric-loss": self.metric_loss,
            "seed": self.seed,
            "threads": self.threads,
        }

    def command(self, peer: Peer, out: Path) -> list[str]:
        """How a peer's script is started."""
        places = {
            "run": self.run.folder, "level": self.level.folder, "base": self.base, "small": self.small,
            "data": self.data, "rows": self.rows, "made": self.work, "out": out,
        }  # fmt: skip
        told = {name: value for name, value in {**places, **self.settings()}.items() if value is not None}
        flags = [word for name, value in told.items() for word in (f"--{name}", str(value))]
        return [peer.interpreter(), str(HERE / "scripts" / peer.script), *flags]

    def inputs(self, peer: Peer) -> dict[str, Any]:
        """What decides what a peer makes."""
        scripts = sorted((HERE / "scripts").glob("*.py"))
        files = [self.run.folder / RUN_JSON, self.level.folder / RUN_JSON, *sorted(self.rows.glob("*.npz"))]
        requirements = HERE / "requirements" / f"{peer.environment}.txt"
        return {
            **self.settings(),
            "small": self.small if peer.small else None,
            "requirements": sha256_file(requirements) if requirements.is_file() else None,
            "files": [sha256_file(file) for file in files],
            "scripts": {file.name: sha256_file(file) for file in scripts if file.name in (peer.script, *SHARED)},
        }


SHARED = ("contract.py", "torch_model.py", "onnx_files.py", "bundles.py", "learning.py")
"""Scripts that others import."""


def make(peer: Peer, job: Job) -> dict[str, Any]:
    """Run a peer's script, unless what it made for these inputs is still there.

    Args:
        peer: whose.
        job: what it is told; its models go to `job.work / peer.name`.

    Returns:
        The content of `peer.json`.

    Raises:
        InputError: its environment was not made.
        MeasurementError: the script failed.
    """
    folder, inputs = job.work / peer.name, job.inputs(peer)
    if _read(folder / INPUTS) != inputs:
        with staged_folder(folder, overwrite=True) as stage:
            _run(peer, job.command(peer, stage), job.work / f"{peer.name}.log", job.threads)
            write_json(stage / INPUTS, inputs)
    record: dict[str, Any] = _read(folder / RECORD)
    return record


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _run(peer: Peer, command: list[str], log: Path, threads: int) -> None:
    variables = {**clean_environment(own=peer.environment == "own"), "OMP_NUM_THREADS": str(threads)}
    with log.open("w", encoding="utf-8") as words:
        done = subprocess.run(command, stdout=words, stderr=subprocess.STDOUT, env=variables, check=False)
    if done.returncode:
        said = " / ".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-LAST_LINES:])
        raise MeasurementError(f"{peer.script} ended with status {done.returncode} ({said}); {log} has all it said")
