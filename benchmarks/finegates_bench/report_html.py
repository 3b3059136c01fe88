"""The report as one page: plots inlined, no script, nothing fetched; light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib.resources import files

from finegates_bench.plot_style import PALETTE
from finegates_bench.report_plots import Plot, panel_svg, plots
from finegates_bench.report_tables import Table, models_table, shape_table
from finegates_bench.results import BenchReport, ModelResult

STYLESHEET = "page.css"


def html_page(report: BenchReport) -> str:
    """The whole page."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: BenchReport) -> Iterator[str]:
    title = f"{report.base}: latency across sparsity levels"
    yield "<!doctype html>"
    yield '<html lang="en">'
    yield "<head>"
    yield '<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark">'
    yield f"<title>{escape(title)}</title>"
    yield f"<style>\n{files('finegates_bench').joinpath(STYLESHEET).read_text(encoding='utf-8')}</style>"
    yield "</head>"
    yield "<body>"
    yield "<header>"
    yield '<p class="kicker">FineGates Export benchmark</p>'
    yield f"<h1>{escape(report.base)}</h1>"
    yield f'<p class="lead">{escape(_lead(report))}</p>'
    yield "</header>"
    yield "<main>"
    yield from _notes(report)
    for plot in plots(report):
        yield from _plot(plot, report)
    yield "<section>"
    yield "<h2>Models</h2>"
    yield f"<p>{escape(report.metric_name)}: {escape(report.eval_rows)}. Unpruned model: {escape(report.unpruned)}.</p>"
    yield from _table(models_table(report))
    yield "</section>"
    yield "<section>"
    yield "<h2>Timings</h2>"
    yield (
        f"<p>onnxruntime on the CPU, {report.stamp.threads} threads a model. A fresh process per shape (batch x "
        "sequence) holds all models; in every round each ran once, in a drawn order, after a warm-up. Ratio: median "
        "over the unpruned model's, with a bootstrap interval over the rounds, drawn as pairs.</p>"
    )
    for shape in report.shapes:
        table = shape_table(report, shape)
        yield f"<h3>{escape(table.title)}</h3>"
        yield from _table(table)
    yield "</section>"
    yield "</main>"
    yield "<footer>"
    yield "<h2>Measured</h2>"
    yield "<dl>"
    for name, value in report.stamp.lines():
        shown = f"<code>{escape(value)}</code>" if name == "command" else escape(value)
        yield f"<dt>{escape(name)}</dt><dd>{shown}</dd>"
    yield "</dl>"
    yield "</footer>"
    yield "</body>"
    yield "</html>"


def _lead(report: BenchReport) -> str:
    """What the trained level that removed most is worth, in one sentence."""
    levels = [model for model in report.models if model.kind == "level" and model.precision == "float32"]
    level, unpruned = max(levels, key=lambda model: model.removed), report.models[0]
    ratios = [level.timing(shape).ratio for shape in report.shapes]
    span = f"{min(ratios):.2f}" + (f" to {max(ratios):.2f}" if len(ratios) > 1 else "")
    sentence = f"With {level.removed:.0%} of the layers' linear weights removed it takes {span} of the unpruned time"
    return f"{sentence}{_metric_change(level, unpruned, report.metric_name)}."


def _metric_change(level: ModelResult, unpruned: ModelResult, name: str) -> str:
    if level.metric is None:
        return ""
    against = f" against {unpruned.metric:.3f}" if unpruned.metric is not None else ""
    return f", at {name} {level.metric:.3f}{against}"


def _notes(report: BenchReport) -> Iterator[str]:
    if not report.notes:
        return
    yield '<ul class="notes">'
    yield from (f"<li>{escape(note)}</li>" for note in report.notes)
    yield "</ul>"


def _plot(plot: Plot, report: BenchReport) -> Iterator[str]:
    yield "<section>"
    yield f"<h2>{escape(plot.title[0].upper() + plot.title[1:])}</h2>"
    yield '<div class="panels">'
    for shape in report.shapes:
        yield f'<figure id="{plot.name}-{shape}" role="img" aria-label="{escape(plot.title)}, {shape}">'
        yield _themed(panel_svg(plot, report, shape))
        yield "</figure>"
    yield "</div>"
    yield "</section>"


def _themed(svg: str) -> str:
    """Colours as variables of the page."""
    for role, colour in PALETTE.items():
        svg = svg.replace(colour, f"var(--{role})")
    return svg


def _table(table: Table) -> Iterator[str]:
    yield '<div class="scroll"><table>'
    yield (
        "<thead><tr>" + "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns) + "</tr></thead>"
    )
    yield "<tbody>"
    for row in table.rows:
        name, *numbers = row.cells
        kind = "" if row.trained else ' class="untrained"'
        yield (
            f'<tr{kind}><th scope="row">{escape(name)}</th>'
            + "".join(f"<td>{escape(n)}</td>" for n in numbers)
            + "</tr>"
        )
    yield "</tbody>"
    yield "</table></div>"
