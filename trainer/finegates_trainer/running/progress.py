"""A run on a terminal: facts first, then one bar with loss, metric and removed share, a line per evaluation."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from finegates_trainer.running.reporter import StepReport


class TerminalReporter:
    """Shows a run on stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[metric]}  {task.fields[standing]}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._progress.add_task("start", total=None, loss="-", metric="", standing="")

    def started(self, facts: dict[str, str]) -> None:
        """Print the facts and start the bar."""
        for name, fact in facts.items():
            self._console.print(f"{name:<8} {fact}", highlight=False)
        self._progress.start()

    def stepped(self, report: StepReport) -> None:
        """Move the bar."""
        metric = f"{report.metric_name} {report.metric:.4f}" if report.metric is not None else ""
        self._progress.update(
            self._task,
            description=report.phase,
            completed=report.step,
            total=report.steps,
            loss=f"{report.loss:.4f}",
            metric=metric,
            standing=report.standing,
        )

    def evaluated(self, step: int, metrics: dict[str, float], removed: float, *, best: bool) -> None:
        """Print a line."""
        told = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        mark = "  best so far" if best else ""
        self._console.print(f"step {step}: {told}, removed {removed:.1%}{mark}", highlight=False)

    def settled(self, removed: float, words: str) -> None:
        """Print a line."""
        self._console.print(f"settled at {removed:.2%} removed ({words})", highlight=False)

    def finished(self) -> None:
        """Stop the bar."""
        self._progress.stop()
