"""The phase, aim and learning rate of each step.

A run is one stretch of steps per level. In a stretch the gates are first pressed towards the level (`close`), then the
structure is settled and training continues on it (`settled`). The first stretch starts with a `free` phase.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from finegates_export.common.options import check

PhaseName = Literal["free", "close", "settled"]


@dataclass(frozen=True)
class Phase:
    """The state of the schedule at a step."""

    name: PhaseName
    level: int
    """Index of the level that this stretch works towards."""
    aim: float
    """The removed share aimed for at this step."""


@dataclass(frozen=True)
class Schedule:
    """The schedule of all steps.

    Args:
        levels: removed shares to settle at, ascending; empty without gates.
        steps: total optimizer steps.
        free_fraction: share of the first stretch before pressure starts.
        settle_fraction: share of each stretch with the structure settled.
        warmup: share of each stretch over which the learning rate rises.

    Raises:
        ValueError: fewer steps than levels.
    """

    levels: tuple[float, ...]
    steps: int
    free_fraction: float
    settle_fraction: float
    warmup: float

    def __post_init__(self) -> None:
        wanted = f"{self.steps} steps for {self.stretches} levels, but each level needs at least one"
        check(self.steps >= self.stretches, "max-steps", f"{wanted}; train for more steps or fewer levels")

    @property
    def stretches(self) -> int:
        """Stretches of the run, at least one."""
        return max(1, len(self.levels))

    def start(self, level: int) -> int:
        """The first step of a level's stretch."""
        return self.steps * level // self.stretches

    def end(self, level: int) -> int:
        """The step after a level's last."""
        return self.steps * (level + 1) // self.stretches

    def settle_step(self, level: int) -> int:
        """The step before which a level's structure is settled."""
        start, end = self.start(level), self.end(level)
        return start + int((end - start) * (1 - self.settle_fraction))

    def phase(self, step: int) -> Phase:
        """The state at a step, counted from 0."""
        level = next(i for i in range(self.stretches) if step < self.end(i))
        if not self.levels:
            return Phase("settled", 0, 0.0)
        if step >= self.settle_step(level):
            return Phase("settled", level, self.levels[level])
        start, settle = self.start(level), self.settle_step(level)
        if level == 0:
            start += int((self.end(0) - start) * min(self.free_fraction, 1 - self.settle_fraction))
            if step < start:
                return Phase("free", 0, 0.0)
        below = self.levels[level - 1] if level else 0.0
        progress = (step + 1 - start) / max(1, settle - start)
        return Phase("close", level, below + (self.levels[level] - below) * progress)

    def learning_rate_factor(self, step: int) -> float:
        """Linear warm-up and decay within each stretch, between 0 and 1."""
        level = self.phase(step).level
        start, end = self.start(level), self.end(level)
        done, length = step - start, end - start
        rising = max(1, int(length * self.warmup))
        if done < rising:
            return (done + 1) / rising
        return max(0.0, (length - done) / max(1, length - rising))
