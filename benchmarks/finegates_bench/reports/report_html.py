"""The report as one page: plots inlined, no script, nothing fetched; light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

from finegates_bench.measuring.results import BenchReport, ModelResult
from finegates_bench.reports.html_table import html_table
from finegates_bench.reports.plot_style import PALETTE
from finegates_bench.reports.report_plots import Plot, panel_svg, plots
from finegates_bench.reports.report_tables import (
    RATIO_TOLD,
    Table,
    chain_table,
    fusion_table,
    models_table,
    planned_models,
    shape_table,
    widths_table,
)
from finegates_export.common.words import in_html

STYLESHEET = "page.css"


def html_page(report: BenchReport) -> str:
    """The whole page."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: BenchReport) -> Iterator[str]:
    yield "<!doctype html>"
    yield '<html lang="en">'
    yield "<head>"
    yield '<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="color-scheme" content="light dark">'
    yield f"<title>{in_html(report.base)}: latency across sparsity levels</title>"
    yield f"<style>\n{files('finegates_bench.reports').joinpath(STYLESHEET).read_text(encoding='utf-8')}</style>"
    yield "</head>"
    yield "<body>"
    yield "<header>"
    yield '<p class="kicker">FineGates Export benchmark</p>'
    yield f"<h1>{in_html(report.base)}</h1>"
    yield f'<p class="lead">{in_html(_lead(report))}</p>'
    yield "</header>"
    yield "<main>"
    yield from _notes(report)
    for plot in plots(report):
        yield from _plot(plot, report)
    yield from _models(report)
    yield from _timings(report)
    yield from _making(report)
    yield "</main>"
    yield from _footer(report)
    yield "</body>"
    yield "</html>"


def _models(report: BenchReport) -> Iterator[str]:
    yield '<section id="models">'
    yield "<h2>Models</h2>"
    rows = f"{report.metric_name}: {report.eval_rows}. Unpruned model: {report.unpruned}."
    yield f"<p>{in_html(rows)}</p>"
    yield from html_table(models_table(report))
    yield "</section>"


def _timings(report: BenchReport) -> Iterator[str]:
    yield '<section id="timings">'
    yield "<h2>Timings</h2>"
    yield (
        f"<p>onnxruntime {in_html(report.stamp.place)}; {report.processes_told} per shape (batch x sequence). In every "
        f"round each model ran once, in a drawn order, after a warm-up. Ratio: {RATIO_TOLD}.</p>"
    )
    for shape in report.shapes:
        yield from _titled(shape_table(report, shape))
    yield "</section>"


def _making(report: BenchReport) -> Iterator[str]:
    """Fused nodes, chain, linears that int8 kept in float; the many widths are collapsed."""
    yield '<section id="making">'
    yield "<h2>How the models were made</h2>"
    yield from _titled(fusion_table(report))
    quantized = [model for model in report.models if model.left_in_float]
    if quantized:
        yield "<h3>Linears that int8 left in float</h3>"
        yield "<dl>"
        for model in quantized:
            names = ", ".join(f"<code>{in_html(name)}</code>" for name in model.left_in_float)
            yield f"<dt>{in_html(model.label)}</dt><dd>{names}</dd>"
        yield "</dl>"
    yield from _titled(chain_table(report))
    yield "<h3>Widths of every layer</h3>"
    for model in planned_models(report):
        yield f"<details><summary>{in_html(model.label)}</summary>"
        yield from html_table(widths_table(model))
        yield "</details>"
    yield "</section>"


def _footer(report: BenchReport) -> Iterator[str]:
    yield '<footer id="measured">'
    yield "<h2>Measured with</h2>"
    yield f'<pre class="scroll"><code>{in_html(report.stamp.command)}</code></pre>'
    yield "<dl>"
    for name, value in report.stamp.lines():
        if name != "command":
            yield f"<dt>{in_html(name)}</dt><dd>{in_html(value)}</dd>"
    yield "</dl>"
    yield "</footer>"


def _lead(report: BenchReport) -> str:
    """The gain of the trained level with the largest removed share, in one sentence; else a what-if level."""
    pruned = [model for model in report.of_one_base if model.precision != "int8" and model.kind != "unpruned"]
    levels = [model for model in pruned if model.kind == "level" and model.removed] or pruned
    model, unpruned = max(levels, key=lambda level: level.removed), report.models[0]
    ratios = [model.timing(shape).ratio for shape in report.shapes]
    span = f"{min(ratios):.2f}" + (f" to {max(ratios):.2f}" if len(ratios) > 1 else "")
    untrained = "" if model.trained else ", closed without training"
    sentence = f"With {model.removed:.0%} of the layers' linear weights removed{untrained}, it takes {span} of the "
    return f"{sentence}unpruned time{_metric_change(model, unpruned, report.metric_name)}."


def _metric_change(level: ModelResult, unpruned: ModelResult, name: str) -> str:
    if level.metric is None:
        return ""
    against = f" against {unpruned.metric:.3f}" if unpruned.metric is not None else ""
    return f", at {name} {level.metric:.3f}{against}"


def _notes(report: BenchReport) -> Iterator[str]:
    if not report.notes:
        return
    yield '<ul class="notes">'
    yield from (f"<li>{in_html(note)}</li>" for note in report.notes)
    yield "</ul>"


def _plot(plot: Plot, report: BenchReport) -> Iterator[str]:
    yield f'<section id="{plot.name}">'
    yield f"<h2>{in_html(plot.title[0].upper() + plot.title[1:])}</h2>"
    yield f"<p>{in_html(plot.words)}</p>"
    yield '<ul class="keys">'
    for key in plot.keys:
        yield f'<li><span class="{key.mark}" style="--mark: var(--{key.role})"></span>{in_html(key.words)}</li>'
    yield "</ul>"
    yield '<div class="panels">'
    for panel in plot.panels:
        label = in_html(f"{plot.title}, {panel}")
        yield f'<figure id="{plot.name}-{in_html(panel)}" role="img" aria-label="{label}">'
        yield _themed(panel_svg(plot, report, panel))
        yield "</figure>"
    yield "</div>"
    yield "</section>"


def _themed(svg: str) -> str:
    """Colours as variables of the page."""
    for role, colour in PALETTE.items():
        svg = svg.replace(colour, f"var(--{role})")
    return svg


def _titled(table: Table) -> Iterator[str]:
    yield f"<h3>{in_html(table.title)}</h3>"
    if table.words:
        yield f"<p>{in_html(table.words)}</p>"
    yield from html_table(table)
