"""Who measured: command, date, processor, versions."""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import sys
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from finegates_bench.results import Stamp

STAMPED = ("finegates-export", "onnxruntime", "onnxruntime-gpu", "onnx", "torch", "transformers")
LIBRARY_CALL = "finegates_bench.measure (called from Python)"


def make_stamp(threads: int) -> Stamp:
    """The stamp of a measurement that is made now.

    Args:
        threads: processor threads per model.
    """
    return Stamp(
        command=_command(),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()}",
        threads=threads,
        versions={"python": platform.python_version(), **_versions()},
    )


def _command() -> str:
    name = Path(sys.argv[0]).name
    return shlex.join([name, *sys.argv[1:]]) if name.startswith("finegates") else LIBRARY_CALL


def _versions() -> dict[str, str]:
    found = {}
    for name in STAMPED:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _processor() -> str:
    """Linux alone says it in a file; elsewhere what Python knows."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()
