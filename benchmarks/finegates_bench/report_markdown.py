"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from finegates_bench.report_tables import Table, tables
from finegates_bench.results import BenchReport


def markdown(report: BenchReport) -> str:
    """All tables, the notes, and the stamp."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: BenchReport) -> Iterator[str]:
    yield f"# {report.base}: latency across sparsity levels"
    yield ""
    yield f"- unpruned model: {report.unpruned}"
    yield f"- {report.metric_name}: {report.eval_rows}"
    yield (
        f"- latency: onnxruntime on the CPU, {report.stamp.threads} threads, medians of rounds in which every model "
        "ran once in a drawn order, after a warm-up, in a fresh process per shape (batch x sequence)"
    )
    yield "- ratio: median over the unpruned model's; interval: bootstrap over the rounds, drawn as pairs"
    for table in tables(report):
        yield ""
        yield f"## {table.title}"
        yield ""
        yield from table_lines(table)
    if report.notes:
        yield ""
        yield "## Notes"
        yield ""
        yield from (f"- {note}" for note in report.notes)
    yield ""
    yield "## Measured"
    yield ""
    yield from (f"- {name}: {_code(value) if name == 'command' else value}" for name, value in report.stamp.lines())


def table_lines(table: Table) -> Iterator[str]:
    """One table's lines, padded, so that it reads in a terminal as well."""
    cells = [table.columns, *(row.cells for row in table.rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.columns))]
    for number, row in enumerate(cells):
        padded = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        yield f"| {' | '.join(padded)} |"
        if number == 0:
            yield f"|{'-' * (widths[0] + 2)}|{'|'.join('-' * (width + 1) + ':' for width in widths[1:])}|"


def _code(text: str) -> str:
    return f"`{text}`"
