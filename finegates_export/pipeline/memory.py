"""What an export takes, in time and memory, and giving back what it no longer needs."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from finegates_export.common.foreign import forget_graphs

T = TypeVar("T")
KIB = 1024
WORTH_COLLECTING = 32 << 20
"""Bytes of weights; a smaller model that lingers costs less than looking for it."""


class Handed(Generic[T]):
    """A value that its receiver alone holds once it took it: the caller's reference would keep its memory.

    Args:
        value: what is handed over.
    """

    def __init__(self, value: T) -> None:
        self._held = [value]

    def take(self) -> T:
        """The value, once."""
        return self._held.pop()


def return_freed_memory() -> None:
    """Give freed weights back to the system: glibc keeps blocks of their size, and the peak would count them twice."""
    with contextlib.suppress(OSError, AttributeError):  # another C library has its own ways
        ctypes.CDLL(None).malloc_trim(0)


def collect() -> None:
    """Free models and graphs in reference cycles, and those that onnxscript still refers to.

    It walks every object of torch and onnx, which takes longer than the export of a tiny model.
    """
    forget_graphs()
    gc.collect()
    return_freed_memory()


def collect_after(weight_bytes: int) -> None:
    """`collect`, where a model is large enough to be missed.

    Args:
        weight_bytes: of its weights.
    """
    if weight_bytes >= WORTH_COLLECTING:
        collect()


def peak_bytes() -> int:
    """Peak resident memory of this program so far.

    Linux tells it per program; getrusage (in KiB there) also counts what the parent held before it started this one.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        fields = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(fields["VmHWM"].split()[0]) * KIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


@dataclass(frozen=True)
class Usage:
    """What this program takes from here on."""

    started: float = field(default_factory=time.perf_counter)
    resident: int = field(default_factory=peak_bytes)

    @property
    def seconds(self) -> float:
        """Passed since."""
        return time.perf_counter() - self.started

    @property
    def peak_growth(self) -> int:
        """Bytes by which the peak resident memory has grown."""
        return peak_bytes() - self.resident
