"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from finegates_bench.measuring.results import BenchReport
from finegates_bench.reports.report_tables import RATIO_TOLD, Table, making_tables, tables
from finegates_export.common.words import in_code, in_markdown


def markdown(report: BenchReport) -> str:
    """Everything: tables, notes, how the models were made, and the stamp."""
    return _joined([*_found(report), *_making(report), *_stamp(report)])


def summary(report: BenchReport) -> str:
    """The terminal's version: models, timings, notes and the stamp."""
    return _joined([*_found(report), *_stamp(report)])


def table_lines(table: Table) -> Iterator[str]:
    """One table's lines, padded to be readable in a terminal."""
    cells = [[in_markdown(cell) for cell in row] for row in (table.columns, *(row.cells for row in table.rows))]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.columns))]
    for number, row in enumerate(cells):
        padded = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        yield f"| {' | '.join(padded)} |"
        if number == 0:
            yield f"|{'-' * (widths[0] + 2)}|{'|'.join('-' * (width + 1) + ':' for width in widths[1:])}|"


def _found(report: BenchReport) -> Iterator[str]:
    yield f"# {in_markdown(report.base)}: latency across sparsity levels"
    yield ""
    yield f"- unpruned model: {in_markdown(report.unpruned)}"
    yield f"- {in_markdown(report.metric_name)}: {in_markdown(report.eval_rows)}"
    yield (
        f"- latency: onnxruntime {report.stamp.place}, medians of rounds in which every model "
        f"ran once in a drawn order, after a warm-up; {report.processes_told} per shape (batch x sequence)"
    )
    yield f"- ratio: {RATIO_TOLD}"
    yield "- kept FLOPs: the arithmetic limit, the share of floating-point operations that the plan kept"
    for table in tables(report):
        yield from _titled(table)
    if report.notes:
        yield from ("", "## Notes", "")
        yield from (f"- {in_markdown(note)}" for note in report.notes)


def _making(report: BenchReport) -> Iterator[str]:
    for table in making_tables(report):
        yield from _titled(table)
    quantized = [model for model in report.models if model.left_in_float]
    if quantized:
        yield from ("", "## Linears that int8 left in float", "")
        yield from (
            f"- {in_markdown(model.label)}: {', '.join(in_code(name) for name in model.left_in_float)}"
            for model in quantized
        )


def _stamp(report: BenchReport) -> Iterator[str]:
    yield from ("", "## Measured", "")
    yield from (
        f"- {name}: {in_code(value) if name == 'command' else in_markdown(value)}"
        for name, value in report.stamp.lines()
    )


def _titled(table: Table) -> Iterator[str]:
    yield from ("", f"## {in_markdown(table.title)}", "")
    if table.words:
        yield from (table.words, "")
    yield from table_lines(table)


def _joined(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"
