"""How a run tells what it is doing; the command shows it on a terminal, the library says nothing by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class StepReport:
    """One optimizer step."""

    step: int
    steps: int
    phase: str
    loss: float
    metric_name: str
    metric: float | None
    """The latest evaluation's; None before the first."""
    standing: str
    """How far the gates are from what was asked for."""


class Reporter(Protocol):
    """Receives what happens, in order."""

    def started(self, facts: dict[str, str]) -> None:
        """Before the first step: what will be trained, line by line."""

    def stepped(self, report: StepReport) -> None:
        """After every optimizer step."""

    def evaluated(self, step: int, metrics: dict[str, float], removed: float, *, best: bool) -> None:
        """After every evaluation."""

    def settled(self, removed: float, words: str) -> None:
        """When a level's structure was settled: the share that goes, and what was asked for."""

    def finished(self) -> None:
        """After the last step, also when the run fails."""


@dataclass
class Silent:
    """Says nothing, remembers the evaluations."""

    evaluations: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    def started(self, facts: dict[str, str]) -> None:
        """Nothing."""

    def stepped(self, report: StepReport) -> None:
        """Nothing."""

    def evaluated(self, step: int, metrics: dict[str, float], removed: float, *, best: bool) -> None:
        """Remember it."""
        self.evaluations.append((step, metrics))

    def settled(self, removed: float, words: str) -> None:
        """Nothing."""

    def finished(self) -> None:
        """Nothing."""
