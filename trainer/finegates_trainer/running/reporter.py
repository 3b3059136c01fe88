"""How a run reports progress; the command shows it on a terminal, the library is silent by default."""

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
    """Metric of the latest evaluation; None before the first."""
    standing: str
    """Progress of the gates towards their aim."""


class Reporter(Protocol):
    """Receives events in order."""

    def started(self, facts: dict[str, str]) -> None:
        """Before the first step: what will be trained, line by line."""

    def stepped(self, report: StepReport) -> None:
        """After every optimizer step."""

    def evaluated(self, step: int, metrics: dict[str, float], removed: float, *, best: bool) -> None:
        """After every evaluation."""

    def settled(self, removed: float, words: str) -> None:
        """When a level's structure was settled: the removed share, and the aim in words."""

    def finished(self) -> None:
        """After the last step, also when the run fails."""


@dataclass
class Silent:
    """Silent, but remembers the evaluations."""

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
