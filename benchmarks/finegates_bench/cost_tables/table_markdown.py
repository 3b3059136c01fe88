"""The measured cost table as Markdown: a table for every width of every kind of layer."""

from __future__ import annotations

from collections.abc import Iterator

from finegates_bench.cost_tables.table_results import CostLine, CostReport, FormCosts, WidthCost
from finegates_bench.cost_tables.table_widths import Axis
from finegates_bench.reports.report_markdown import table_lines
from finegates_bench.reports.report_tables import NOTHING, Row, Table
from finegates_export.common.words import in_code, in_markdown

HALVES: dict[Axis, str] = {
    "neurons": "Feed-forward network by its neurons",
    "dims": "Attention by the dims of its heads",
    "heads": "Attention by its heads",
}
UNITS: dict[Axis, str] = {"neurons": "neurons", "dims": "dims a head", "heads": "heads"}
MICROSECONDS = 1000
PACKED, APART = "one operator", "apart"


def markdown(report: CostReport) -> str:
    """All tables, what their columns mean, and the stamp."""
    return "\n".join(_lines(report)) + "\n"


def line_title(report: CostReport, form: FormCosts, line: CostLine) -> str:
    """What one line is, and of which layers where there are several kinds."""
    fixed = f", {line.fixed}" if line.fixed else ""
    layers = f"; {_layers(form)}" if len(report.forms) > 1 else ""
    return f"{HALVES[line.axis]}{fixed}{layers}"


def threads_told(threads: int) -> str:
    """How many, in words."""
    return f"{threads} thread" + ("" if threads == 1 else "s")


def _lines(report: CostReport) -> Iterator[str]:
    yield f"# {in_markdown(report.base)}: what its layers cost at {report.shape}"
    yield ""
    yield (
        f"- ms: one half of a layer over and above its residual sum and its norm, {report.target}, "
        f"{threads_told(report.stamp.threads)}; medians, in a fresh process, of rounds in which all widths take turns"
    )
    yield "- of the time: of the whole half's; of the arithmetic: of its linears, Q K^T and A V"
    yield f"- {report.measured} blocks were measured for this table, {report.kept} kept from before"
    for form in report.forms:
        for line in form.lines:
            yield ""
            yield f"## {line_title(report, form, line)}"
            yield ""
            yield from table_lines(_table(line))
    yield ""
    yield "## Measured"
    yield ""
    yield from (
        f"- {name}: {in_code(value) if name == 'command' else in_markdown(value)}"
        for name, value in report.stamp.lines()
    )


def _table(line: CostLine) -> Table:
    unit = {"neurons": "neuron", "dims": "dim of each", "heads": "head"}[line.axis]
    attention = line.axis != "neurons"
    columns = (
        UNITS[line.axis], *(["Q, K, V"] if attention else []), "ms", "95 % interval", f"µs a {unit}", "of the time",
        "of the arithmetic", "rounds",
    )  # fmt: skip
    return Table("", columns, tuple(_row(line, point, attention=attention) for point in line.points))


def _row(line: CostLine, point: WidthCost, *, attention: bool) -> Row:
    share = line.time_share(point)
    return Row(
        (
            f"{point.width:,}",
            *([PACKED if point.packed else APART] if attention else []),
            f"{point.ms:.3f}",
            f"{point.low:.3f} to {point.high:.3f}",
            f"{point.ms_per_unit * MICROSECONDS:.2f}",
            NOTHING if share is None else f"{share:.1%}",
            f"{line.arithmetic_share(point):.1%}",
            f"{point.rounds}",
        )
    )


def _layers(form: FormCosts) -> str:
    """Numbers as ranges: layers 0, 3 to 5."""
    runs: list[list[int]] = []
    for layer in form.layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    told = [f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    return f"layers {', '.join(told)}" if len(form.layers) > 1 else f"layer {told[0]}"
