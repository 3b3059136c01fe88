"""Labels, names and licences of strangers go through every writer: none becomes markup, a field or a line."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from finegates_bench.comparing.comparison import Comparison
from finegates_bench.reports.report_html import html_page
from finegates_bench.reports.report_markdown import markdown, summary, table_lines
from finegates_bench.reports.report_plots import panel_svg, plots
from finegates_bench.reports.report_reading import read_report
from finegates_bench.reports.report_tables import Row, Table
from finegates_export.common.commands import _print_error
from finegates_export.common.words import in_code, in_html, in_markdown, one_line
from finegates_export.deploy.triton.pbtxt import pbtxt
from finegates_export.pipeline.bundle import model_card as card
from finegates_export.pipeline.bundle.metadata import graph_metadata
from finegates_export.pipeline.quantized_form import QuantizedForm
from finegates_export.sources.run_folder import RunInfo
from finegates_export.verification.agreed import Agreed, Recall

ROOT = Path(__file__).parents[2]
HARMLESS = "word"
HOSTILE = {
    "a script": "<script>alert(1)</script>",
    "an image": "<img src=x onerror=alert(2)>",
    "an attribute": '" onmouseover="alert(3)" x="',
    "a comment": "--> <!-- <![CDATA[ ]]>",
    "an entity": "&lt;script&gt; &#60;b&#62;",
    "a link": "[click](javascript:alert(4))",
    "an address": "https://evil.example/?a=b www.evil.example ftp://evil.example",
    "an image of Markdown": "![x](https://evil.example/x.png)",
    "emphasis": "*a* _b_ **c** __d__ ~~e~~ `f` ``g``",
    "a cell": "a | b |",
    "a heading": "a\n# b\n",
    "a list": "- a",
    "a number": "1. a",
    "a quote": "> a",
    "a rule": "---",
    "a fence": "```\nrm -rf\n```",
    "front matter": "mit\ntags: [evil]\n---\nx",
    "YAML": "{a: b}: [c] #",
    "breaks": "a\r\nb\u2028c\u2029d\x0be\x85f",
    "controls": "a\x00b\x07c\x1b[31md\x7f",
    "right to left": "a\u202egnp.exe\u2066b\u200fc\ufeff",
    "mathematics": r"$\frac{1}{$ \alpha",
    "a message": 'a" name: "evil',
    "a backslash": "a\\",
}


def _info(text: str) -> RunInfo:
    return RunInfo(
        base_id=f"base/{text}", base_revision="main", base_tensors={}, family="bert", layout="coupled",
        task="classification", labels=(text, "b"), max_length=16, removed=0.4, metric=text, metrics={text: 0.5},
        trained_parameters={}, data={}, options={}, command="x", steps=1, licence=text,
    )  # fmt: skip


class _Plan:
    removed = 0.4

    def __str__(self) -> str:
        return "plan"


def _card(text: str) -> str:
    size = SimpleNamespace(parameters=1, size_bytes=1)
    agreed = Agreed(2, 2, 1, 1, one_answer=False, recalls=(Recall(text, 1, 1, 1, 1, 1),))
    report: Any = SimpleNamespace(
        before=size, after=size, plan=_Plan(), rows=1, real_rows=1, links=[], vocabulary=None, metric="accuracy",
        quantized=QuantizedForm("int8", 1, (), 1, 0.5, 0.5, 1.0, "accuracy", agreed),
    )  # fmt: skip
    return card.model_card(_info(text), report, ["model.onnx"])


def _report(text: str) -> Any:
    sound = read_report(min((ROOT / "benchmarks" / "results").rglob("report.json")))
    stamp = replace(sound.stamp, command=text, processor=text, system=text, versions={"onnxruntime": text})
    models = tuple(replace(model, name=text, left_in_float=(text,)) for model in sound.models)
    changes = {"base": text, "metric_name": text, "eval_rows": text, "unpruned": text, "notes": (text,)}
    return replace(sound, stamp=stamp, models=models, **changes)


def _table(text: str) -> str:
    return "\n".join(table_lines(Table(text, (text, "b"), (Row((text, "1"), trained=True),))))


MARKDOWN: dict[str, Callable[[str], str]] = {
    "model card": lambda text: _card(text).split("---\n", 2)[2],
    "report": lambda text: markdown(_report(text)),
    "report on the terminal": lambda text: summary(_report(text)),
    "table": _table,
    "a name": lambda text: f"# {in_markdown(text)}, {in_code(text)}",
    "the start of a line": lambda text: f"{in_markdown(text)} b",
}


def _shape(text: str) -> list[str]:
    """The blocks and marks of a page of Markdown, without their words."""
    markdown_it = pytest.importorskip("markdown_it")
    kinds = []
    for token in markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").parse(text):
        inside = (child.type for child in token.children or ())
        kinds += [token.type, *(kind for kind in inside if kind not in ("text", "softbreak", "text_special"))]
    return kinds


def _compared(text: str) -> str:
    return str(Comparison(text, text, text, (), (text,), (), (text,), limit=None, absolute=False))


@pytest.mark.parametrize("writer", [*MARKDOWN, "comparison"])
def test_words_of_strangers_are_no_markdown(writer: str) -> None:
    write = {**MARKDOWN, "comparison": _compared}[writer]
    wanted = _shape(write(HARMLESS))
    for name, text in HOSTILE.items():
        page = write(text)
        assert _shape(page) == wanted, name
        assert "<script" not in page and "<img" not in page, name
        assert not re.search("[\u2028\u202e\ufeff\x00\x1b\r]", page), name


@pytest.mark.parametrize("name", HOSTILE)
def test_a_licence_is_one_field_of_the_front_matter(name: str) -> None:
    page = _card(HOSTILE[name])
    front = yaml.safe_load(page.split("---\n")[1])
    assert front.keys() == {"license", "library_name", "tags"}
    assert front["tags"] == ["onnx", "finegates", "pruned"]
    assert isinstance(front["license"], str)
    assert "onerror" not in page.split("\n# ")[0]


@pytest.mark.parametrize(
    ("stated", "written"), [("apache-2.0", "apache-2.0"), ("no", "no"), ("1.0", "1.0"), ("~", "other")]
)
def test_a_licence_stays_a_text(stated: str, written: str) -> None:
    assert yaml.safe_load(_card(stated).split("---\n")[1])["license"] == written


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}

    def handle_comment(self, data: str) -> None:
        self.tags[f"comment {data.split(maxsplit=1)[0]}"] += 1


def test_words_of_strangers_are_no_html() -> None:
    drawn = {"text", "tspan", "g"}  # a longer line is broken
    wanted = _Page(html_page(_report(HARMLESS)))
    page = _Page(html_page(_report(" ".join(HOSTILE.values()))))
    assert {tag: page.tags[tag] for tag in page.tags if tag not in drawn} == {
        tag: wanted.tags[tag] for tag in wanted.tags if tag not in drawn
    }
    assert page.attributes == wanted.attributes


@pytest.mark.parametrize("name", ["controls", "right to left", "mathematics", "a script", "breaks"])
def test_words_of_strangers_are_drawn_as_they_are(name: str) -> None:
    report = _report(HOSTILE[name])
    for plot in plots(report):
        drawn = panel_svg(plot, report, plot.panels[0])
        ElementTree.fromstring(drawn)  # noqa: S314  # written a line above
        assert "<script" not in drawn


@pytest.mark.parametrize("name", HOSTILE)
def test_words_of_strangers_are_one_value_for_a_machine(name: str) -> None:
    text = HOSTILE[name]
    (line,) = pbtxt({"name": text}).rstrip("\n").split("\n")
    assert re.fullmatch(r'name: "(?:[^"\\]|\\.)*"', line), line
    assert json.loads(graph_metadata(_info(text), _Plan())["finegates.labels"])[0] == text  # type: ignore[arg-type]  # only its share is read


@pytest.mark.parametrize("name", HOSTILE)
def test_a_word_is_one_line_that_shows_all_of_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = HOSTILE[name]
    assert len(one_line(text).splitlines()) == 1
    assert one_line(text).isprintable()
    assert "<" not in in_html(text) and '"' not in in_html(text)
    _print_error("finegates-export", text, 2)
    assert capsys.readouterr().err.count("\n") == 1


def test_words_of_other_languages_and_names_stay_as_they_are() -> None:
    for text in (
        "naïve café",
        "日本語",
        "नमस्ते",
        "क्\u200d",
        "😀",
        "all-MiniLM-L6_v2",
        "bert.encoder.layer.0",
        "-",
        "12.5",
        "-0.5",
    ):
        assert in_markdown(text) == one_line(text) == text


def test_the_page_of_the_browser_makes_no_markup_of_words() -> None:
    files = (ROOT / "finegates_export" / "deploy" / "web" / "page_files").glob("*.js")
    page = "".join(file.read_text(encoding="utf-8") for file in files)
    assert "textContent" in page
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", page)
