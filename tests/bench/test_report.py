"""The files of a report."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from finegates_bench import BenchReport, report
from finegates_bench.plot_style import PALETTE
from finegates_bench.report_html import html_page
from finegates_bench.report_markdown import markdown
from finegates_export.errors import InputError, OutputError

FETCHING = {"src", "href", "srcset", "data", "xlink:href", "poster"}


class Page(HTMLParser):
    """What a browser would fetch, which figures hold a drawing, and all words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.figures: dict[str, int] = {}
        self.words: list[str] = []
        self.tags: set[str] = set()
        self._figure = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.tags.add(tag)
        self.fetched += [value for name, value in attributes if name in FETCHING and value and value[0] != "#"]
        if tag == "figure":
            self._figure = values["id"] or ""
            self.figures[self._figure] = 0
        if tag == "path" and self._figure:
            self.figures[self._figure] += 1

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_all_files_are_there_and_nothing_else(report_folder: Path) -> None:
    names = {"report.json", "report.md", "index.html", "latency.png", "latency.svg", "metric.png", "metric.svg"}
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


@pytest.mark.parametrize(
    ("change", "message"),
    [({"schema_version": 2}, "schema version 2"), ({"models": [{}]}, "not a benchmark report"), ({"x": 1}, "not a")],
)
def test_json_of_something_else_is_refused(measured: BenchReport, change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BenchReport.from_json({**measured.to_json(), **change})


def test_markdown_holds_every_model_at_every_shape_and_the_stamp(report_folder: Path, measured: BenchReport) -> None:
    text = (report_folder / "report.md").read_text()
    for model in measured.models:
        assert text.count(f"| {model.label} ") == 1 + len(measured.shapes)
        for timing in model.timings:
            assert f"{timing.ratio_low:.2f} to {timing.ratio_high:.2f}" in text
    assert all(value in text for _, value in measured.stamp.lines())
    assert all(note in text for note in measured.notes)
    assert str(measured) == text


def test_markdown_tables_are_as_wide_in_every_row(measured: BenchReport) -> None:
    tables = re.findall(r"(?:^\|.*\n)+", markdown(measured), re.MULTILINE)
    assert len(tables) == 1 + len(measured.shapes)
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
        assert len({len(line) for line in table.splitlines()}) == 1


def test_the_page_fetches_nothing_and_runs_nothing(report_folder: Path) -> None:
    text = (report_folder / "index.html").read_text()
    page = Page(text)
    assert page.fetched == []
    assert not {"script", "link", "img", "iframe", "object", "base"} & page.tags
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_the_page_holds_every_plot_and_every_number(report_folder: Path, measured: BenchReport) -> None:
    page = Page((report_folder / "index.html").read_text())
    assert set(page.figures) == {f"{plot}-{shape}" for plot in ("latency", "metric") for shape in measured.shapes}
    assert all(drawn > len(measured.models) for drawn in page.figures.values())
    words = set(page.words)
    assert {f"{model.timing('2x16').p50_ms:.2f}" for model in measured.models} <= words
    assert all(value in words for _, value in measured.stamp.lines())


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
    latency, metric = (page.index(f'id="{plot}-1x8"') for plot in ("latency", "metric"))
    panel, other = page[latency : page.index("</svg>", latency)], page[metric : page.index("</svg>", metric)]
    for precision in ("float32", "int8"):
        assert hollow.format(precision) in panel
        assert hollow.format(precision) not in other, "what has no metric is not in the metric's plot"


def test_without_any_metric_its_plot_is_left_out(measured: BenchReport, tmp_path: Path) -> None:
    blind = tuple(dataclasses.replace(model, metric=None, metric_source=None) for model in measured.models)
    report(dataclasses.replace(measured, models=blind), tmp_path / "report")
    assert not (tmp_path / "report" / "metric.svg").exists()
    assert "metric-1x8" not in (tmp_path / "report" / "index.html").read_text()


def test_the_same_report_gives_the_same_drawings(measured: BenchReport, report_folder: Path, tmp_path: Path) -> None:
    report(measured, tmp_path / "again")
    for name in ("latency.svg", "metric.svg", "index.html", "report.md"):
        assert (tmp_path / "again" / name).read_bytes() == (report_folder / name).read_bytes()


def test_an_existing_report_stays_unless_overwritten(measured: BenchReport, tmp_path: Path) -> None:
    out = tmp_path / "report"
    out.mkdir()
    (out / "old").touch()
    with pytest.raises(OutputError, match="--overwrite"):
        report(measured, out)
    assert [path.name for path in out.iterdir()] == ["old"]
    report(measured, out, overwrite=True)
    assert not (out / "old").exists()
    assert (out / "index.html").is_file()


def test_nothing_is_left_when_writing_fails(
    measured: BenchReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finegates_bench import report_files

    def fail(_report: BenchReport) -> str:
        raise InputError("stop")

    monkeypatch.setattr(report_files, "html_page", fail)
    with pytest.raises(InputError, match="stop"):
        report(measured, tmp_path / "report")
    assert list(tmp_path.iterdir()) == []
