"""Measures an export's time and memory, and frees what it no longer needs."""

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
"""Bytes of weights; keeping a smaller model costs less than searching for it."""


class Handed(Generic[T]):
    """A value that only its receiver holds once taken: the caller's reference would keep its memory.

    Args:
        value: the value.
    """

    def __init__(self, value: T) -> None:
        self._held = [value]

    def take(self) -> T:
        """The value, once."""
        return self._held.pop()


def return_freed_memory() -> None:
    """Return freed weights to the system: glibc keeps blocks of their size, and the peak would count them twice."""
    with contextlib.suppress(OSError, AttributeError):  # another C library has no malloc_trim
        ctypes.CDLL(None).malloc_trim(0)


def collect() -> None:
    """Free models and graphs in reference cycles, and those that onnxscript still refers to.

    It walks every object of torch and onnx, which takes longer than the export of a tiny model.
    """
    forget_graphs()
    gc.collect()
    return_freed_memory()


def collect_after(weight_bytes: int) -> None:
    """`collect`, if a model is large enough to be worth it.

    Args:
        weight_bytes: size of its weights.
    """
    if weight_bytes >= WORTH_COLLECTING:
        collect()


def peak_bytes() -> int:
    """Peak resident memory of this process so far, in bytes.

    Linux reports it per process; getrusage (in KiB there) also counts what the parent held before it started this
    process.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        fields = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(fields["VmHWM"].split()[0]) * KIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


@dataclass(frozen=True)
class Usage:
    """The time and memory that this process uses from now on."""

    started: float = field(default_factory=time.perf_counter)
    resident: int = field(default_factory=peak_bytes)

    @property
    def seconds(self) -> float:
        """Seconds since then."""
        return time.perf_counter() - self.started

    @property
    def peak_growth(self) -> int:
        """Growth of the peak resident memory since then, in bytes."""
        return peak_bytes() - self.resident
