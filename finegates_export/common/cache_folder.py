"""The user's cache folder, and the name of the machine that its files hold for."""

from __future__ import annotations

import os
import platform
from pathlib import Path

CACHE_VARIABLE = "FINEGATES_CACHE"
"""Environment variable: a folder to use instead of the user's cache folder."""


def cache_folder() -> Path:
    """Where measured costs and passed checks are kept: `$FINEGATES_CACHE`, or `finegates-export` in the user's cache.

    Raises:
        RuntimeError: the user has no home folder.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification says to ignore a relative XDG_CACHE_HOME.
    return (base if base.is_absolute() else Path.home() / ".cache") / "finegates-export"


def processor_name() -> str:
    """The CPU's name: from a file on Linux, elsewhere from Python."""
    return _told("model name") or platform.processor() or platform.machine()


def processor_features() -> str:
    """The instruction sets that the CPU offers, as Linux lists them; empty elsewhere."""
    return _told("flags") or _told("Features")


def _told(field: str) -> str:
    """A field of `/proc/cpuinfo`; empty without it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(field):
                return " ".join(line.partition(":")[2].split())
    return ""
