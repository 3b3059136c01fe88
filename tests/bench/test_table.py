"""The cost table: which widths are measured, what is told of them, and whose files are refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from finegates_bench import CostReport, KeptCosts, TableOptions, cost_table, save_table
from finegates_bench.cli import main
from finegates_bench.cost_tables.table_files import table_text
from finegates_bench.cost_tables.table_widths import consecutive, width_lines
from finegates_export.common.shapes import Shape
from finegates_export.costs.blocks.layer_shapes import FeedForwardShape
from finegates_export.costs.blocks.linear_shape import LinearShape
from finegates_export.costs.cost_table import CostTable
from finegates_export.costs.layer_forms import layer_forms
from finegates_export.errors import InputError, OutputError
from tests.tiny import tiny_base

MS = 1_000_000
NORM = 0.5
WHOLE = {"neurons": 96, "dims": 8, "heads": 4}
"""Of the base."""


class Formula:
    """Answers questions in milliseconds: the norm, and what the widths make; heads and dims cost one unit beside."""

    def __init__(self):
        self.asked = []

    def __call__(self, question):
        self.asked += question.shapes
        return [[self.milliseconds(shape) * MS] * 4 for shape in question.shapes]

    def milliseconds(self, shape):
        if isinstance(shape, LinearShape):
            return shape.inputs / 10
        if isinstance(shape, FeedForwardShape):
            return NORM + shape.neurons / 8
        return NORM + (shape.heads * (1 + shape.qk) / 10 if shape.heads else 0.0)


def nobody(question):
    raise AssertionError(f"{len(question.shapes)} blocks were to be in the file")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FINEGATES_CACHE", str(tmp_path / "cache"))


def report_of(base: Path, measurer=None, **settings) -> CostReport:
    options = TableOptions(base=str(base), shape="2x8", **settings)
    return cost_table(options, measurer=measurer or Formula())


def lines_of(report: CostReport, form: int = 0) -> dict:
    return {line.axis: line for line in report.forms[form].lines}


def table(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["finegates-bench", "table", *map(str, arguments)])
    main()


# what is measured


def test_every_line_ends_with_the_whole_half_and_costs_are_less_the_norm(base: Path) -> None:
    lines = lines_of(report_of(base))
    assert {axis: line.whole.width for axis, line in lines.items()} == WHOLE
    assert lines["neurons"].whole.ms == pytest.approx(12.0)
    assert lines["dims"].whole.ms == lines["heads"].whole.ms == pytest.approx(3.6)
    half = next(point for point in lines["dims"].points if point.width == 4)
    assert half.ms == pytest.approx(2.0)
    assert half.ms_per_unit == pytest.approx(0.5)
    assert lines["dims"].time_share(half) == pytest.approx(2.0 / 3.6)
    assert lines["dims"].arithmetic_share(half) == 0.5
    assert [point.width for point in lines["heads"].points] == [1, 2, 3, 4]
    assert all(line.dense is None for line in lines.values())


def test_time_that_is_lost_in_the_noise_has_no_share(base: Path) -> None:
    class Silence(Formula):
        def milliseconds(self, shape):
            return NORM

    report = report_of(base, Silence())
    line = lines_of(report)["neurons"]
    assert line.time_share(line.points[0]) is None
    assert " - |" in table_text(report)


def test_only_what_is_missing_is_measured_and_both_are_counted(base: Path) -> None:
    first = Formula()
    report = report_of(base, first)
    assert (report.measured, report.kept) == (len(first.asked), 0)
    again = report_of(base, nobody)
    assert (again.measured, again.kept) == (0, report.measured)
    assert again.forms == report.forms
    more = Formula()
    dense = report_of(base, more, dense=10)
    assert dense.kept == report.measured
    assert dense.measured == len(more.asked) > 0


def test_consecutive_widths_are_measured_one_by_one(base: Path) -> None:
    lines = lines_of(report_of(base, dense=10, around=0.5))
    assert lines["neurons"].dense == (44, 53)
    assert set(range(44, 54)) <= {point.width for point in lines["neurons"].points}
    assert {54, 43}.isdisjoint(point.width for point in lines["neurons"].points)
    assert lines["dims"].dense == (1, 8), "there are no more"
    assert lines["heads"].dense == (1, 4)


@pytest.mark.parametrize(
    ("arguments", "widths"),
    [
        ((96, 4, 0.0), [1, 2, 3, 4]),
        ((96, 4, 1.0), [93, 94, 95, 96]),
        ((96, 1, 0.5), [48]),
        ((32, 3, 0.5, 2), [14, 16, 18]),
        ((8, 99, 0.5, 2), [2, 4, 6, 8]),
        ((8, 0, 0.5), []),
    ],
)
def test_consecutive_widths_stay_inside_the_whole(arguments, widths) -> None:
    assert list(consecutive(*arguments)) == widths


def test_rotated_dims_come_in_pairs_and_are_never_packed(tmp_path: Path) -> None:
    lines = lines_of(report_of(tiny_base(tmp_path / "rotary", "modernbert"), dense=4))
    assert all(point.width % 2 == 0 for point in lines["dims"].points)
    assert not any(point.packed for line in lines.values() for point in line.points)


def test_attention_is_measured_as_the_exporter_writes_it() -> None:
    from transformers import BertConfig

    from finegates_export.families.bert import Bert

    config = BertConfig(hidden_size=96, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    _, dims, heads = width_lines(layer_forms(Bert(), config, Shape(2, 8))[0], dense=48, around=0.5)
    assert [dims.blocks[width].packed for width in (1, 16, 17, 33, 32)] == [True, True, True, True, True]
    assert heads.blocks[2].packed
    wide = BertConfig(hidden_size=96, num_hidden_layers=1, num_attention_heads=6, intermediate_size=64)
    _, dims, _ = width_lines(layer_forms(Bert(), wide, Shape(2, 8))[0], dense=16, around=0.5)
    assert [dims.blocks[width].packed for width in (1, 10, 11, 16)] == [False, False, True, True]


def test_layers_of_another_form_have_lines_of_their_own(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from finegates_export.costs import layer_forms as module

    def uneven(family, config, shape):
        attention, network = layer_forms(family, config, shape)[0]
        return tuple((attention, replace(network, neurons=neurons)) for neurons in (96, 48, 96, 96))

    monkeypatch.setattr(module, "layer_forms", uneven)
    report = report_of(base)
    assert [form.layers for form in report.forms] == [(0, 2, 3), (1,)]
    assert [lines_of(report, form)["neurons"].whole.width for form in (0, 1)] == [96, 48]
    assert "Feed-forward network by its neurons; layers 0, 2 to 3" in table_text(report)
    assert "Feed-forward network by its neurons; layer 1" in table_text(report)


def test_a_shape_longer_than_the_model_is_refused(base: Path) -> None:
    with pytest.raises(InputError, match="shape 1x4096 is longer than the model allows"):
        cost_table(TableOptions(base=str(base), shape="1x4096"), measurer=nobody)


# what is told


@pytest.mark.slow
def test_files_hold_every_number_and_the_stamp(base: Path, tmp_path: Path) -> None:
    report = report_of(base, dense=20, around=0.25)
    save_table(report, tmp_path / "out")
    names = {"table.json", "table.md", "staircase.png", "staircase.svg"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert (tmp_path / "out" / "staircase.png").read_bytes()[:4] == b"\x89PNG"
    values = json.loads((tmp_path / "out" / "table.json").read_text())
    lines = {line["axis"]: line for line in values["forms"][0]["lines"]}
    last = lines["neurons"]["points"][-1]
    assert (last["width"], last["time_share"], last["arithmetic_share"]) == (96, 1.0, 1.0)
    assert last["ms_per_unit"] == pytest.approx(12.0 / 96)
    page = (tmp_path / "out" / "table.md").read_text()
    assert page == table_text(report)
    assert "| 96      | 12.000 | 12.000 to 12.000 |      125.00 |      100.0% |            100.0% |      4 |" in page
    assert all(value in page for _, value in report.stamp.lines())
    drawn = (tmp_path / "out" / "staircase.svg").read_text()
    for words in ("Feed-forward network by its neurons", "14 to 33 neurons", "Attention by its heads, 8 dims a head"):
        assert words in drawn
    with pytest.raises(OutputError, match="already exists"):
        cost_table(TableOptions(base=str(base), out=tmp_path / "out"), measurer=nobody)


def test_without_a_base_the_file_is_told_and_nothing_measured(base: Path, tmp_path: Path) -> None:
    report_of(base)
    known = CostTable(2, measurer=Formula())
    known.milliseconds([LinearShape(64, 20, 30)])
    known.cheaper([LinearShape(64, 20, 30)], [LinearShape(64, 15, 30, read_from=20)])
    known.cheaper([LinearShape(64, 20, 30, precision="int8")], [LinearShape(64, 20, 30)])
    kept = cost_table(TableOptions(), measurer=nobody)
    assert isinstance(kept, KeptCosts)
    assert len(kept.costs) == len(kept.to_json()["costs"]) > 10
    page = table_text(kept)
    assert "## Attention, 2x8, residual width 32, 4 heads of 8, plain\n" in page
    assert "## Feed-forward, 2x8, residual width 32, gelu\n" in page
    assert "| 96      | 12.500 |" in page, "with the norm, as it was measured"
    assert "## Linears, 64 tokens\n" in page
    compared = [line.replace(" ", "") for line in page.splitlines()]
    assert any(line.startswith("|20to30|15of20to30|64|0.750|") for line in compared)
    assert any(line.startswith("|20to30inint8|20to30|64|1.000|") for line in compared)
    save_table(kept, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"table.json", "table.md"}
    assert "0 blocks" in table_text(cost_table(TableOptions(threads=3), measurer=nobody)), (
        "another number has another file"
    )


@pytest.mark.parametrize("shape", ["2x8", "2x18"])
def test_an_image_has_one_length(tmp_path: Path, shape: str) -> None:
    base = tiny_base(tmp_path / "vit", "vit", layers=1)
    with pytest.raises(InputError, match=rf"shape {shape} (is longer|does not have the length).*\(17 tokens"):
        cost_table(TableOptions(base=str(base), shape=shape), measurer=nobody)
    assert cost_table(TableOptions(base=str(base), shape="2x17"), measurer=Formula()).shape == "2x17"


# whose files


def test_a_file_that_is_handed_in_is_used_and_added_to(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    report = report_of(base, file=file)
    assert file.is_file()
    assert not (tmp_path / "cache").exists()
    assert report_of(base, nobody, file=file).forms == report.forms
    assert len(cost_table(TableOptions(file=file), measurer=nobody).costs) == report.measured


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"processor": "another"}, r"holds costs of another machine \(processor 'another' instead of '"),
        (
            {"onnxruntime": "onnxruntime 0.1"},
            r"another machine \(onnxruntime 'onnxruntime 0.1' instead of 'onnxruntime",
        ),
        ({"threads": 7}, r"holds costs measured otherwise \(threads 7 instead of 2\); measure again"),
        ({"schema": 1}, r"measured otherwise \(schema 1 instead of \d"),
        (
            {"schema": 1, "cores": 64, "threads": 7},
            r"schema 1 instead of \d+, cores 64 instead of \d+, threads 7 instead of 2",
        ),
    ],
)
def test_a_file_of_another_machine_is_refused_by_what_differs(changes, told, base: Path, tmp_path: Path) -> None:
    file = tmp_path / "theirs.json"
    report_of(base, file=file)
    content = json.loads(file.read_text())
    content["stamp"] |= changes
    file.write_text(json.dumps(content))
    for options in (TableOptions(file=file), TableOptions(base=str(base), shape="2x8", file=file)):
        with pytest.raises(InputError, match=told) as error:
            cost_table(options, measurer=nobody)
        assert "theirs.json" in str(error.value)
    assert json.loads(file.read_text()) == content


@pytest.mark.parametrize(
    ("content", "told"), [("{", "cannot be read"), ("[]", "it lacks a stamp"), ('{"stamp": 3}', "it lacks a stamp")]
)
def test_a_file_that_holds_no_costs_is_refused(content, told, tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    file.write_text(content)
    with pytest.raises(InputError, match=told):
        cost_table(TableOptions(file=file), measurer=nobody)


def test_a_file_that_is_not_there_is_refused_where_nothing_is_measured(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json does not exist; give --base"):
        cost_table(TableOptions(file=tmp_path / "nowhere.json"), measurer=nobody)


# the command


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"shape": "8by8"}, "shape: '8by8' is not a shape"),
        ({"threads": 0}, "threads: must be positive, got 0"),
        ({"base": "b", "dense": -1}, "dense: must not be negative"),
        ({"dense": 3}, "dense: measures a base's layers; give --base too"),
        ({"around": 1.5}, r"around: must lie in \[0, 1\], got 1.5"),
        ({"seconds": -1.0}, "seconds: must not be negative"),
        ({"target": "portable"}, "target: 'portable' has no cost table; choose one of ort-cpu"),
    ],
)
def test_bad_options_are_refused_by_name(settings, told) -> None:
    with pytest.raises(ValueError, match=told):
        TableOptions(**settings)


@pytest.mark.slow
def test_the_command_measures_in_a_real_process_prints_and_writes(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("finegates_export.costs.cost_table.KEPT_HALF_WIDTH", 100.0)  # on a machine that tests busily
    out = tmp_path / "out"
    arguments = ("--base", base, "--shape", "4x16", "--threads", 1, "--seconds", 0, "--out", out)
    table(monkeypatch, *arguments)
    printed = capsys.readouterr()
    page = (out / "table.md").read_text()
    assert printed.out == f"{page}\nwrote {out}\n"
    assert "at 4x16; " in printed.err
    assert "- command: `finegates-bench table --base " in page
    values = json.loads((out / "table.json").read_text())
    assert values["kept"] == 0
    assert all(point["rounds"] >= 16 for line in values["forms"][0]["lines"] for point in line["points"])
    table(monkeypatch, *arguments, "--overwrite", "--json")
    again = json.loads(capsys.readouterr().out)
    assert (again["measured"], again["kept"]) == (0, values["measured"])
    assert again["forms"] == values["forms"]
    table(monkeypatch, "--threads", 1)
    assert f"{values['measured']} blocks" in capsys.readouterr().out


def test_a_refused_file_is_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        table(monkeypatch, "--file", tmp_path / "nowhere.json")
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert said.startswith("finegates-bench table: ")
    assert said.count("\n") == 1
