"""The command `finegates-bench`."""

from __future__ import annotations

from finegates_bench.compare_options import CompareOptions
from finegates_bench.options import BenchOptions
from finegates_export.commands import Command, Output, run_command

SLOWER_STATUS = 1
"""Exit status of a comparison that found a slower model; 2 is bad input."""
SUMMARY = """Measure a run's levels against the unpruned model: latency, size and metric, as a report.

--baseline RUN is the unpruned model: a run with layout none. --config FILE.yaml reads options from YAML; flags win.
As a first word, compare holds two reports side by side: finegates-bench compare --help."""
COMPARE_SUMMARY = """Hold two reports side by side, models matched by id: median, ratio to unpruned and metric.

BEFORE and AFTER are folders of reports or their report.json. With --fail-above a slower model is exit status 1. What is
judged is the ratio to the unpruned model, after over before; --absolute judges milliseconds."""


def main() -> None:
    """Entry point."""
    run_command("finegates-bench", Command(SUMMARY, BenchOptions, _bench), OTHERS)


def _bench(options: BenchOptions, output: Output) -> None:
    from finegates_bench.report_files import report
    from finegates_bench.sweep import measure

    measured = measure(options, output.say)
    report(measured, options.out, overwrite=options.overwrite)
    output.result(f"{measured}\nwrote {options.out}", measured.to_json())


def _compare(options: CompareOptions, output: Output) -> None:
    from finegates_bench.compare_reports import compare

    found = compare(options)
    output.result(str(found), found.to_json())
    if found.slower:
        output.fail([found.verdict], SLOWER_STATUS)


OTHERS = {"compare": Command(COMPARE_SUMMARY, CompareOptions, _compare)}
"""What the command does instead where its first word is one of these."""
