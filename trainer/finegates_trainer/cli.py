"""The command `finegates-train`."""

from __future__ import annotations

from finegates_export.common.commands import Command, Output, run_command
from finegates_trainer.options import TrainOptions

SUMMARY = """Train gates, LoRA and a task head on a frozen base, and write a run folder.

--config FILE.yaml reads options from YAML. Flags override it, alternatives included: --epochs overrides max-steps."""
ALTERNATIVES = (("--target-removed", "--levels", "--target-speedup"), ("--epochs", "--max-steps"))
"""How much to remove; how long to train."""
WORTH_PRINTING = 0.001
"""A nominal share is printed where it exceeds the removed share by this much."""


def main() -> None:
    """Entry point."""
    run_command("finegates-train", Command(SUMMARY, TrainOptions, _train, ALTERNATIVES))


def _train(options: TrainOptions, output: Output) -> None:
    from finegates_trainer.running.early import check_early

    check_early(options)  # before what takes seconds to import
    from finegates_trainer.processes import join_processes
    from finegates_trainer.running.progress import TerminalReporter
    from finegates_trainer.running.reporter import Silent
    from finegates_trainer.running.training import train

    run = train(options, Silent() if output.quiet else TerminalReporter())
    if not join_processes().is_main:
        return
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in run.info.metrics.items())
    silenced = run.info.nominal or 0.0
    nominal = f" (nominal {silenced:.1%})" if silenced > run.info.removed + WORTH_PRINTING else ""
    output.result(
        f"wrote {options.out}: removed {run.info.removed:.1%}{nominal}, {metrics}",
        {**run.info.to_json(), "out": str(options.out)},
    )
