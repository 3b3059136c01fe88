"""Who measured: command, date, processor, versions."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from pathlib import Path

from finegates_bench.results import Stamp
from finegates_export.stamp import command, versions

LIBRARY_CALL = "finegates_bench.measure (called from Python)"


def make_stamp(threads: int, library_call: str = LIBRARY_CALL) -> Stamp:
    """The stamp of a measurement that is made now.

    Args:
        threads: processor threads per model.
        library_call: what stands for the command where none of ours is running.
    """
    return Stamp(
        command=command(library_call),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()}",
        threads=threads,
        versions=versions(),
    )


def _processor() -> str:
    """Linux alone says it in a file; elsewhere what Python knows."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()
