"""The stamp of a measurement: command, date, CPU, versions."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from finegates_bench.measuring.devices import accelerator_name
from finegates_bench.measuring.results import Stamp
from finegates_export.common.cache_folder import processor_name
from finegates_export.common.stamp import command, versions

LIBRARY_CALL = "finegates_bench.measure (called from Python)"


def make_stamp(threads: int, library_call: str = LIBRARY_CALL, provider: str = "cpu") -> Stamp:
    """The stamp of a measurement made now.

    Args:
        threads: CPU threads per model.
        library_call: replaces the command if none of ours is running.
        provider: the provider that runs the models.
    """
    return Stamp(
        command=command(library_call),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        processor=processor_name(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()}",
        threads=threads,
        versions=versions(),
        provider=provider,
        accelerator="" if provider == "cpu" else accelerator_name(),
    )


def stamp_line(stamp: Mapping[str, Any]) -> str:
    """A stamp in one line, for the end of pages.

    Args:
        stamp: as JSON types.
    """
    packages = ", ".join(f"{name} {version}" for name, version in stamp["versions"].items())
    return f"`{stamp['command']}`, {stamp['date']}, {stamp['processor']}, {stamp['cores']} cores; {packages}."
