"""Which of several ways to run a graph is fastest on this machine: a short measurement, kept in the user's cache.

Each way runs alone, one after the other: two runtimes side by side would take each other's processor.

Shapes: B rows, S tokens.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finegates_export.common.cache_folder import cache_folder, processor_name
from finegates_export.common.files import JsonObject, staged_file, write_json
from finegates_export.common.shapes import Shape
from finegates_export.common.tasks.arrays import Array
from finegates_export.errors import OutputError
from finegates_export.runtime.session import Session

SHAPE = Shape(8, 128)
"""Rows and tokens of the measured call; fewer tokens where the model reads fewer."""
WARM_UPS, FEWEST_CALLS, SECONDS = 2, 5, 0.5

Ways = Mapping[str, Callable[[], Session]]
"""What opens a session, by the name of the way."""


@dataclass(frozen=True)
class Timed:
    """Medians of one call's time."""

    shape: str
    milliseconds: dict[str, float]
    """By the name of the way."""

    @property
    def fastest(self) -> str:
        """The way with the smallest median."""
        return min(self.milliseconds, key=lambda name: self.milliseconds[name])

    @property
    def told(self) -> str:
        """Which is fastest and why, in words."""
        others = ", ".join(f"{name}: {ms:.1f} ms" for name, ms in self.milliseconds.items() if name != self.fastest)
        return f"{self.fastest}: {self.milliseconds[self.fastest]:.1f} ms for {self.shape} tokens here; {others}"


def faster(info: JsonObject, ways: Ways, settings: Mapping[str, object]) -> Timed:
    """Time every way, unless that was done on this machine before.

    Args:
        info: the bundle's `bundle.json`.
        ways: at least one.
        settings: what else the time depends on.
    """
    shape = Shape(SHAPE.batch, min(SHAPE.sequence, info["max_length"]))
    stamp = {
        "bundle": hashlib.sha256(json.dumps(info["files"], sort_keys=True).encode()).hexdigest(),
        "processor": processor_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "ways": list(ways),
        "shape": str(shape),
        **settings,
    }
    place = _place(stamp)
    known = _read(place, stamp)
    if known is not None:
        return Timed(str(shape), known)
    timed = Timed(str(shape), {name: _time(make(), shape, info) for name, make in ways.items()})
    if place is not None:
        with contextlib.suppress(OSError, OutputError):  # a cache that cannot be written costs a measurement
            place.parent.mkdir(parents=True, exist_ok=True)
            with staged_file(place, overwrite=True) as stage:
                write_json(stage, {"stamp": stamp, "milliseconds": timed.milliseconds})
    return timed


def _time(session: Session, shape: Shape, info: JsonObject) -> float:
    """The median of a call's milliseconds."""
    feed = {value.name: _filled(value.name, value.shape, shape, info) for value in session.get_inputs()}
    times: list[float] = []
    end = 0.0
    for call in range(-WARM_UPS, 1 << 30):
        if call == 0:
            end = time.perf_counter() + SECONDS
        start = time.perf_counter()
        session.run(None, feed)
        times += [1000 * (time.perf_counter() - start)] if call >= 0 else []
        if len(times) >= FEWEST_CALLS and time.perf_counter() > end:
            break
    return statistics.median(times)


def _filled(name: str, axes: list[Any], shape: Shape, info: JsonObject) -> Array:
    """Any row that the graph reads: the time does not depend on the words."""
    if len(axes) > 2:
        return np.zeros((shape.batch, *axes[1:]), np.float32)
    size = (shape.batch, shape.sequence)
    if name != "input_ids":
        return np.full(size, int(name == "attention_mask"), np.int64)
    return np.random.default_rng(0).integers(0, info.get("vocabulary") or 2, size)


def _place(stamp: Mapping[str, object]) -> Path | None:
    digest = hashlib.sha256(json.dumps(stamp, sort_keys=True).encode()).hexdigest()
    try:
        return cache_folder() / "fastest" / f"{digest[:16]}.json"
    except RuntimeError:  # no home folder
        return None


def _read(place: Path | None, stamp: Mapping[str, object]) -> dict[str, float] | None:
    if place is None:
        return None
    try:
        known = json.loads(place.read_text(encoding="utf-8"))
        if known["stamp"] != dict(stamp) or set(known["milliseconds"]) != set(stamp["ways"]):  # type: ignore[call-overload]  # a list, put there above
            return None
        return {name: float(value) for name, value in known["milliseconds"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return None
