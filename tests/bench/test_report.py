"""The files of a report."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from finegates_bench import BenchReport, report
from finegates_bench.measuring.export_facts import ExportFacts
from finegates_bench.reports.plot_style import PALETTE
from finegates_bench.reports.report_html import html_page
from finegates_bench.reports.report_markdown import markdown, summary
from finegates_export.errors import InputError, OutputError

FETCHING = {"src", "href", "srcset", "data", "xlink:href", "poster"}
PLOTS = ("metric", "latency", "plan")
SECTIONS = (*PLOTS, "models", "timings", "making", "measured")


class Page(HTMLParser):
    """What a browser would fetch, which figures hold a drawing, and all words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.figures: dict[str, int] = {}
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self._figure = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.tags.add(tag)
        self.ids += [value for name, value in attributes if name == "id" and value]
        self.fetched += [value for name, value in attributes if name in FETCHING and value and value[0] != "#"]
        if tag == "figure":
            self._figure = values["id"] or ""
            self.figures[self._figure] = 0
        if tag == "path" and self._figure:
            self.figures[self._figure] += 1

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_all_files_are_there_and_nothing_else(report_folder: Path) -> None:
    drawings = {f"{plot}.{kind}" for plot in PLOTS for kind in ("png", "svg")}
    names = {"report.json", "report.md", "index.html", *drawings}
    assert {path.name for path in report_folder.iterdir()} == names
    assert all((report_folder / name).read_bytes()[:4] == b"\x89PNG" for name in names if name.endswith(".png"))
    assert [path.name for path in report_folder.parent.iterdir()] == ["report"]


def test_json_gives_the_report_back(report_folder: Path, measured: BenchReport) -> None:
    values = json.loads((report_folder / "report.json").read_text())
    assert BenchReport.from_json(values) == measured
    first = values["models"][0]
    assert first["label"] == "unpruned"
    assert first["timings"][0]["ratio_over_kept_flops"] == 1.0
    assert [model["metric"] for model in values["models"] if model["kind"] == "what-if"] == [None, None]


def test_a_report_says_how_its_models_were_made(measured: BenchReport) -> None:
    exported = {model.id: model.export for model in measured.models}
    for model in measured.models:
        (layer,) = model.export.layers
        dims = layer.heads * (layer.qk_width + layer.vo_width)
        assert model.kept_weights == model.export.hidden_size * 2 * (dims + layer.neurons)
        padding = layer.attention_padding + layer.neuron_padding
        assert model.padding_weights == model.export.hidden_size * 2 * padding
        assert (model.export.target, model.export.fused["attention"]) == ("ort-cpu", 1)
        assert all(link.relative < 1e-4 for link in model.export.chain if link.exact)
    assert exported["level-0.40"].layers == exported["level-0.40-int8"].layers != exported["unpruned"].layers
    single, quantized = exported["level-0.40"], exported["level-0.40-int8"]
    assert all(link.exact for link in single.chain)
    assert single.chain == quantized.chain[: len(single.chain)]
    assert [link.name for link in quantized.chain if not link.exact] == ["int8, fused", "int8, as delivered"]
    assert single.integer_products == 0 < quantized.integer_products
    assert (single.layers[0].attention_share, exported["unpruned"].layers[0].attention_share) < (1.0, 1.0)


def test_facts_of_an_export_survive_json(measured: BenchReport) -> None:
    for model in measured.models:
        told = json.loads(json.dumps(model.export.to_json()))
        assert ExportFacts.from_json(told) == model.export
        with pytest.raises(KeyError, match="chain"):
            ExportFacts.from_json({name: value for name, value in told.items() if name != "chain"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 1}, "schema version 1, but this version reads 2"),
        ({"models": [{}]}, "not a benchmark report"),
        ({"models": ["unpruned"]}, "not a benchmark report"),
        ({"models": []}, "without models"),
        ({"x": 1}, "not a benchmark report"),
    ],
)
def test_json_of_something_else_is_refused(measured: BenchReport, change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BenchReport.from_json({**measured.to_json(), **change})


def test_markdown_holds_every_model_at_every_shape_and_the_stamp(report_folder: Path, measured: BenchReport) -> None:
    text = (report_folder / "report.md").read_text()
    for model in measured.models:
        assert text.count(f"| {model.label} ") == 3 + len(measured.shapes), "models, shapes, fused nodes, chain"
        assert all(link.name in text for link in model.export.chain)
        for timing in model.timings:
            assert f"{timing.ratio_low:.2f} to {timing.ratio_high:.2f}" in text
    assert all(value in text for _, value in measured.stamp.lines())
    assert all(note in text for note in measured.notes)
    for model in measured.models:
        told = f"## Widths of {model.label}\n" in text
        assert told == (model.precision == "float32" and model.kind != "unpruned"), "int8 has float32's widths"


def test_a_terminal_shows_what_was_found_and_not_how_models_were_made(measured: BenchReport) -> None:
    told = summary(measured)
    assert all(f"## {name}" in told for name in ("Models", "1x8, 4 rounds", "Notes", "Measured"))
    assert not any(name in told for name in ("## Chain", "## Fused", "## Widths"))
    assert all(line in markdown(measured).splitlines() for line in told.splitlines())


def test_markdown_tables_are_as_wide_in_every_row(measured: BenchReport) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", markdown(measured), re.MULTILINE)
    levels = [model for model in measured.models if model.precision == "float32" and model.kind != "unpruned"]
    assert len(tables) == 3 + len(measured.shapes) + len(levels)
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
        assert len({len(line) for line in table.splitlines()}) == 1


def test_a_name_that_holds_a_bar_ends_no_cell(measured: BenchReport) -> None:
    other = dataclasses.replace(measured.models[-1], kind="other", name="small|er")
    text = markdown(dataclasses.replace(measured, models=(*measured.models[:-1], other)))
    rows = [line for line in text.splitlines() if line.startswith("| small")]
    assert rows
    assert all(r"small\|er" in row for row in rows)
    header = next(line for line in text.splitlines() if line.startswith("| model") and "p50, ms" in line)
    timed = next(row for row in rows if " to " in row)
    assert len(re.findall(r"(?<!\\)\|", timed)) == header.count("|")


def test_the_page_fetches_nothing_and_runs_nothing(report_folder: Path) -> None:
    text = (report_folder / "index.html").read_text()
    page = Page(text)
    assert page.fetched == []
    assert not {"script", "link", "img", "iframe", "object", "base"} & page.tags
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_the_page_holds_every_section_plot_and_number(report_folder: Path, measured: BenchReport) -> None:
    page = Page((report_folder / "index.html").read_text())
    assert [name for name in page.ids if name in SECTIONS] == list(SECTIONS)
    shown = [f"{plot}-{shape}" for plot in ("metric", "latency") for shape in measured.shapes]
    levels = [f"plan-{name}" for name in ("level-0.20", "what-if-0.3", "level-0.40")]
    assert list(page.figures) == [*shown, *levels]
    assert all(page.figures[name] > len(measured.models) for name in shown)
    words = set(page.words)
    assert {f"{model.timing('2x16').p50_ms:.2f}" for model in measured.models} <= words
    assert {link.name for model in measured.models for link in model.export.chain} <= words
    assert {f"{layer.neurons} of {layer.neurons_before}" for layer in measured.models[2].export.layers} <= words
    assert all(value in words for _, value in measured.stamp.lines())
    assert "arithmetic limit (kept FLOPs)" in words


def test_ids_are_the_page_s_own_and_every_reference_finds_its_id(measured: BenchReport) -> None:
    text = html_page(measured)
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    referred = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    assert referred
    assert referred <= set(page.ids)


def test_what_int8_left_in_float_is_named(measured: BenchReport) -> None:
    name = "bert.encoder.layer.0.output.dense"
    models = list(measured.models)
    models[1] = dataclasses.replace(models[1], left_in_float=(name,))
    for write in (html_page, markdown):
        assert name in write(dataclasses.replace(measured, models=tuple(models)))
        assert name not in write(measured)


@pytest.mark.slow
def test_padding_and_what_is_gone_are_drawn(measured: BenchReport) -> None:
    def drawing(padding: int, heads: int) -> str:
        layer = dataclasses.replace(level.export.layers[0], neuron_padding=padding, attention_padding=0, heads=heads)
        changed = dataclasses.replace(level, export=dataclasses.replace(level.export, layers=(layer,)))
        page = html_page(dataclasses.replace(measured, models=(measured.models[0], changed)))
        start = page.index(f'<figure id="plan-{level.id}"')
        return page[start : page.index("</figure>", start)]

    level = next(model for model in measured.models if model.id == "level-0.40")
    assert "var(--padding)" not in drawing(padding=0, heads=2)
    assert "var(--padding)" in drawing(padding=5, heads=2)
    assert drawing(0, heads=2).count("fill: var(--heads)") == 2
    assert drawing(0, heads=0).count("fill: var(--heads)") == 0
    assert drawing(0, heads=0).count("fill: var(--gone)") == 2


def test_metric_labels_stand_apart_and_within_the_panel(measured: BenchReport) -> None:
    from finegates_bench.reports.plot_metric import Box, label_boxes

    crowded = tuple(Box(0.9, 0.93, 0.5 + step / 100) for step in range(6))
    labels = label_boxes(crowded, [0.3] * 6)
    everything = (*crowded, *labels)
    assert all(label.right <= 1 for label in labels)
    assert not any(label.meets(other) for label in labels for other in everything if other is not label)
    assert label_boxes((Box(0.2, 0.23, 0.5),), [0.3])[0].level == 0.5


def test_the_page_follows_light_and_dark(measured: BenchReport) -> None:
    text = html_page(measured)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert drawings
    for role, colour in PALETTE.items():
        assert f"--{role}:" in text, "the page defines each colour"
        assert not any(colour in drawing for drawing in drawings), "and the plots use its variable"


def test_names_that_look_like_markup_stay_words(measured: BenchReport) -> None:
    stamp = dataclasses.replace(measured.stamp, command="x <script>alert(1)</script>")
    text = html_page(dataclasses.replace(measured, stamp=stamp, base="<b>base</b>"))
    assert "<script" not in text
    assert "<b>" not in text


def test_untrained_models_are_drawn_hollow(measured: BenchReport) -> None:
    hollow = "fill: var(--paper); stroke: var(--{})"
    page = html_page(measured)
    latency, metric = (page.index(f'<figure id="{plot}-1x8"') for plot in ("latency", "metric"))
    panel, other = page[latency : page.index("</svg>", latency)], page[metric : page.index("</svg>", metric)]
    for precision in ("float32", "int8"):
        assert hollow.format(precision) in panel
        assert hollow.format(precision) not in other, "what has no metric is not in the metric's plot"


@pytest.mark.slow
def test_without_any_metric_its_plot_is_left_out(measured: BenchReport, tmp_path: Path) -> None:
    blind = tuple(dataclasses.replace(model, metric=None, metric_source=None) for model in measured.models)
    report(dataclasses.replace(measured, models=blind), tmp_path / "report")
    assert not (tmp_path / "report" / "metric.svg").exists()
    assert "metric-1x8" not in (tmp_path / "report" / "index.html").read_text()


@pytest.mark.slow
def test_the_same_report_gives_the_same_drawings(measured: BenchReport, report_folder: Path, tmp_path: Path) -> None:
    report(measured, tmp_path / "again")
    for name in ("latency.svg", "metric.svg", "plan.svg", "index.html", "report.md"):
        assert (tmp_path / "again" / name).read_bytes() == (report_folder / name).read_bytes()


@pytest.mark.slow
def test_an_existing_report_stays_unless_overwritten(measured: BenchReport, tmp_path: Path) -> None:
    out = tmp_path / "report"
    out.mkdir()
    for name in ("old", "report.json"):
        (out / name).touch()
    with pytest.raises(OutputError, match="--overwrite"):
        report(measured, out)
    assert {path.name for path in out.iterdir()} == {"old", "report.json"}
    report(measured, out, overwrite=True)
    assert not (out / "old").exists()
    assert (out / "index.html").is_file()


@pytest.mark.slow
def test_nothing_is_left_when_writing_fails(
    measured: BenchReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finegates_bench.reports import report_files

    def fail(_report: BenchReport) -> str:
        raise InputError("stop")

    monkeypatch.setattr(report_files, "html_page", fail)
    with pytest.raises(InputError, match="stop"):
        report(measured, tmp_path / "report")
    assert list(tmp_path.iterdir()) == []
