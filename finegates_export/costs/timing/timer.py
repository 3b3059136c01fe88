"""The interleaved timer: several calls timed in turns, so that a slow spell of the machine affects them all.

Light on purpose: it runs in a process that imports neither torch nor transformers.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from finegates_export.common.options import Options, check

NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class Budget(Options):
    """How long to measure: rounds continue until both the number of rounds and the seconds are reached."""

    rounds: int
    seconds: float
    warmup: int = 3
    """Rounds before the first one that counts."""

    def __post_init__(self) -> None:
        check(self.rounds > 0, "rounds", f"must be positive, got {self.rounds}")
        check(self.seconds >= 0, "seconds", f"must not be negative, got {self.seconds}")
        check(self.warmup >= 0, "warmup", f"must not be negative, got {self.warmup}")

    def shared(self, processes: int) -> Budget:
        """The share of each of this many processes, with rounds rounded up; each warms up in full."""
        check(processes > 0, "processes", f"must be positive, got {processes}")
        return Budget(-(-self.rounds // processes), self.seconds / processes, self.warmup)


def time_interleaved(calls: Mapping[str, Callable[[], object]], budget: Budget, seed: int = 0) -> dict[str, list[int]]:
    """Run every call once per round, in a new random order each round.

    Args:
        calls: what to time, by name.
        budget: number of rounds and seconds.
        seed: seed of the orders.

    Returns:
        Nanoseconds of every call, by name; position i is round i for all of them, so rounds can be compared as pairs.
    """
    names = list(calls)
    generator = np.random.default_rng(seed)
    for _ in range(budget.warmup):
        for i in generator.permutation(len(names)):
            calls[names[i]]()
    times: dict[str, list[int]] = {name: [] for name in names}
    with _no_garbage_collection():
        end = time.perf_counter_ns() + budget.seconds * NANOSECONDS
        done = 0
        while done < budget.rounds or time.perf_counter_ns() < end:
            for i in generator.permutation(len(names)):
                call = calls[names[i]]
                started = time.perf_counter_ns()
                call()
                times[names[i]].append(time.perf_counter_ns() - started)
            done += 1
    return times


def time_until(
    calls: Mapping[str, Callable[[], object]],
    first: Budget,
    seconds: float,
    precise: Callable[[dict[str, list[int]]], bool],
    seed: int = 0,
) -> dict[str, list[int]]:
    """Run rounds until they are precise enough, or until the time is over.

    Args:
        calls: what to time, by name.
        first: the rounds that always finish.
        seconds: time limit, including warm-up and first rounds; no round starts that would exceed it.
        precise: judges the rounds so far; asked again whenever their number has doubled.
        seed: seed of the orders.

    Returns:
        As `time_interleaved`.
    """
    started = time.perf_counter()
    times = time_interleaved(calls, first, seed)
    while not precise(times):
        done = len(next(iter(times.values())))
        elapsed = time.perf_counter() - started
        batch = min(done, int((seconds - elapsed) / elapsed * done))
        if batch <= 0:
            break
        fresh = time_interleaved(calls, Budget(batch, 0.0, 0), seed + done)
        for name, rounds in fresh.items():
            times[name].extend(rounds)
    return times


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A garbage collection would hit whichever call happens to run."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
