"""Other runs measured along: on another base, with another tokenizer, in the same rounds and on the same rows."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from finegates_bench import BenchOptions, BenchReport, measure, report
from finegates_bench.measuring.levels import other_notes, other_runs
from finegates_bench.reports.report_html import html_page
from finegates_bench.reports.report_markdown import markdown
from finegates_bench.reports.report_tables import NOTHING, planned_models, shape_table
from finegates_export.errors import InputError
from finegates_export.sources.run_folder import read_run
from tests.bench.conftest import QUICK, train_tiny
from tests.bench.test_measure import by_id, changed_run
from tests.tiny import tiny_base

SMALLER = "mpnet-of-one-layer"

pytestmark = pytest.mark.slow  # most of these read one measurement, which takes its time


@pytest.fixture(scope="module")
def smaller_run(tmp_path_factory: pytest.TempPathFactory, rows: Path) -> Path:
    """Of another family, with other inputs and fewer layers."""
    folder = tmp_path_factory.mktemp("smaller")
    base = tiny_base(folder / SMALLER, "mpnet", layers=1, positions=64)
    return train_tiny(folder / "run", base, rows, layout="none")


@pytest.fixture(scope="module")
def against(
    tmp_path_factory: pytest.TempPathFactory, gated_run: Path, unpruned_run: Path, smaller_run: Path
) -> BenchReport:
    """The gated run's levels, beside the smaller model and a run on their own base."""
    out = tmp_path_factory.mktemp("against") / "report"
    others = (smaller_run, unpruned_run)
    return measure(BenchOptions(ckpt=gated_run, out=out, baseline=unpruned_run, against=others, **QUICK))


def test_other_runs_come_last_under_their_base_s_name(against: BenchReport, unpruned_run: Path) -> None:
    assert [model.id for model in against.models] == ["unpruned", "level-0.20", "level-0.40", "other-1", "other-2"]
    smaller, same = against.models[-2:]
    assert smaller.label == SMALLER
    assert same.label == f"{against.base} ({unpruned_run.name})", "the base's name alone would not tell them apart"
    assert smaller.kept_weights < against.models[0].kept_weights
    assert any(SMALLER in note and "mpnet" in note for note in against.notes)
    pruned = dataclasses.replace(smaller, removed=0.3)
    assert pruned.label == f"{SMALLER}, 30% removed"


def test_runs_of_one_name_are_told_apart_by_the_folder_above(
    gated_run: Path, smaller_run: Path, tmp_path: Path
) -> None:
    copies = [Path(shutil.copytree(smaller_run, tmp_path / place / "run")) for place in ("one", "two")]
    found = other_runs(read_run(gated_run), copies)
    assert [other.name for other in found] == [f"{SMALLER} (one/run)", f"{SMALLER} (two/run)"]


def test_each_is_scored_as_its_own_training_scored_it(against: BenchReport, smaller_run: Path) -> None:
    recorded = read_run(smaller_run).info
    smaller, same = against.models[-2:]
    assert smaller.metric_source == "graph"
    assert smaller.metric == pytest.approx(recorded.metrics[recorded.metric])
    assert same.metric == against.models[0].metric


@pytest.mark.exhaustive
def test_the_metric_is_the_measured_run_s(
    gated_run: Path, smaller_run: Path, unpruned_run: Path, tmp_path: Path, against: BenchReport
) -> None:
    other = changed_run(smaller_run, tmp_path / "run", metric="f1")
    found = measure(BenchOptions(ckpt=gated_run, out=tmp_path / "report", against=(other,), **QUICK))
    assert by_id(found)["other-1"].metric == by_id(against)["other-1"].metric


def test_their_time_is_over_the_unpruned_model_s_and_their_work_is_not(against: BenchReport) -> None:
    smaller = against.models[-2]
    timing = smaller.timing("2x16")
    assert timing.ratio_low <= timing.ratio <= timing.ratio_high
    table = shape_table(against, "2x16")
    kept = table.columns.index("kept FLOPs")
    cells = {row.cells[0]: row.cells[kept : kept + 2] for row in table.rows}
    assert cells[SMALLER] == (NOTHING, NOTHING)
    assert NOTHING not in cells["40% removed"]


def test_they_are_in_every_part_of_a_report_but_the_plan(against: BenchReport, tmp_path: Path) -> None:
    report(against, tmp_path / "report")
    assert BenchReport.from_json(json.loads((tmp_path / "report" / "report.json").read_text())) == against
    assert SMALLER in markdown(against)
    page = html_page(against)
    latency = page[page.index('<section id="latency"') : page.index('<section id="plan"')]
    assert SMALLER in latency, "a line across the shares"
    assert "Dotted lines" in latency
    assert 'class="triangle"' in page
    assert [model.id for model in planned_models(against)] == ["level-0.20", "level-0.40"]
    lead = page[page.index('<p class="lead">') : page.index("</header>")]
    assert "With 40% of the layers" in lead


def test_a_report_without_them_names_none(measured: BenchReport) -> None:
    page = html_page(measured)
    assert "Dotted lines" not in page
    assert 'class="triangle"' not in page
    stored = measured.to_json()
    for model in stored["models"]:
        del model["name"]
    assert BenchReport.from_json(stored) == measured, "as reports of earlier versions are"


def test_a_run_with_other_labels_is_refused(gated_run: Path, smaller_run: Path, tmp_path: Path) -> None:
    other = changed_run(smaller_run, tmp_path / "run", labels=["x", "y", "z"])
    with pytest.raises(InputError, match=r"has the labels \['x', 'y', 'z'\]"):
        measure(BenchOptions(ckpt=gated_run, out=tmp_path / "report", against=(other,), **QUICK))


def test_rows_that_another_run_did_not_have_are_noted(gated_run: Path, smaller_run: Path, tmp_path: Path) -> None:
    run, same = read_run(gated_run), read_run(smaller_run)
    data = {**same.info.data, "eval_sha256": "0" * 64}
    other = changed_run(smaller_run, tmp_path / "run", data=data)
    assert not any("other evaluation rows" in note for note in other_notes(run, other_runs(run, [smaller_run])))
    assert all("other evaluation rows" in note for note in other_notes(run, other_runs(run, [other])))


def test_a_base_that_moved_is_not_looked_for_under_the_run_s_option(
    gated_run: Path, smaller_run: Path, tmp_path: Path
) -> None:
    other = changed_run(smaller_run, tmp_path / "run", base_id=str(tmp_path / "gone"))
    with pytest.raises(InputError, match=r"against .*run: .*gone.* put that back") as error:
        measure(BenchOptions(ckpt=gated_run, out=tmp_path / "report", against=(other,), **QUICK))
    assert "pass --base" not in str(error.value)


def test_a_run_given_twice_is_refused(gated_run: Path, smaller_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"against: names a run twice: .*run, .*run"):
        BenchOptions(ckpt=gated_run, out=tmp_path, against=(smaller_run, smaller_run))


def test_a_shape_that_one_of_them_does_not_take_is_refused(gated_run: Path, rows: Path, tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "short", layers=1, positions=32)
    other = train_tiny(tmp_path / "run", base, rows, layout="none")
    long = {**QUICK, "shapes": ("1x48",)}
    with pytest.raises(InputError, match=r"1x48 is longer than the model allows \(32 tokens\)"):
        measure(BenchOptions(ckpt=gated_run, out=tmp_path / "report", against=(other,), **long))
