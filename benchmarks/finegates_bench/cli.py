"""The command `finegates-bench`."""

from __future__ import annotations

from finegates_bench.comparing.compare_options import CompareOptions
from finegates_bench.cost_tables.table_options import TableOptions
from finegates_bench.measuring.options import BenchOptions
from finegates_export.common.commands import Command, Output, run_command

SLOWER_STATUS = 1
"""Exit status of a comparison that found a slower model; 2 is bad input."""
SUMMARY = """Measure a run's levels against the unpruned model: latency, size and metric, as a report.

--baseline RUN is the unpruned model: a run with layout none. --against RUN ... are others, such as a smaller model.
--config FILE.yaml reads options from YAML; flags override it.

`finegates-bench table` measures what a base's layers cost at different widths; `finegates-bench compare` compares two
reports. Each has its own --help."""
TABLE_SUMMARY = """Measure what the halves of a base's layers cost on this machine at different widths, as a table.

Without --base, print the stored table for this machine, target and number of threads."""
COMPARE_SUMMARY = """Compare two reports, model by model: median latency, ratio to unpruned, and metric.

BEFORE and AFTER are report folders or their report.json. With --fail-above, a slower model makes exit status 1. The
verdict compares ratios to the unpruned model, after over before; --absolute compares milliseconds."""


def main() -> None:
    """Entry point."""
    run_command("finegates-bench", Command(SUMMARY, BenchOptions, _bench), SUBCOMMANDS)


def _bench(options: BenchOptions, output: Output) -> None:
    from finegates_bench.measuring.sweep import measure
    from finegates_bench.reports.plot_style import check_plots
    from finegates_bench.reports.report_files import report
    from finegates_bench.reports.report_markdown import summary

    check_plots()
    measured = measure(options, output.say)
    report(measured, options.out, overwrite=options.overwrite)
    output.result(f"{summary(measured)}\nwrote {options.out}", measured.to_json())


def _table(options: TableOptions, output: Output) -> None:
    from finegates_bench.cost_tables.table_files import save_table, table_text
    from finegates_bench.cost_tables.table_sweep import cost_table
    from finegates_bench.reports.plot_style import check_plots

    if options.out is not None and options.base is not None:
        check_plots()
    table = cost_table(options, output.say)
    if options.out is not None:
        save_table(table, options.out, overwrite=options.overwrite)
    wrote = f"\nwrote {options.out}" if options.out else ""
    output.result(f"{table_text(table)}{wrote}", table.to_json())


def _compare(options: CompareOptions, output: Output) -> None:
    from finegates_bench.comparing.compare_reports import compare

    found = compare(options)
    output.result(str(found), found.to_json())
    if found.slower:
        output.fail([found.verdict], SLOWER_STATUS)


SUBCOMMANDS = {
    "compare": Command(COMPARE_SUMMARY, CompareOptions, _compare),
    "table": Command(TABLE_SUMMARY, TableOptions, _table),
}
"""What the command does if its first word is one of these."""
