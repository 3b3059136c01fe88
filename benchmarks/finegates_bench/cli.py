"""The command `finegates-bench`."""

from __future__ import annotations

from finegates_bench.options import BenchOptions
from finegates_export.commands import Command, Output, run_command

SUMMARY = """Measure a run's levels against the unpruned model: latency, size and metric, as a report.

--baseline RUN is the unpruned model: a run with layout none. --config FILE.yaml reads options from YAML; flags win."""


def main() -> None:
    """Entry point."""
    run_command("finegates-bench", Command(SUMMARY, BenchOptions, _bench))


def _bench(options: BenchOptions, output: Output) -> None:
    from finegates_bench.report_files import report
    from finegates_bench.sweep import measure

    measured = measure(options, output.say)
    report(measured, options.out, overwrite=options.overwrite)
    output.result(f"{measured}\nwrote {options.out}", measured.to_json())
