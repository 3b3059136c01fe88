"""The verb `measure`: which models, what is refused, where metrics come from."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from finegates_bench import BenchOptions, BenchReport, measure
from finegates_bench.measuring.exports import Exported
from finegates_bench.measuring.levels import own_levels
from finegates_bench.measuring.quality import evaluation_rows, metric_of
from finegates_bench.measuring.results import ModelResult
from finegates_export.errors import InputError, OutputError
from finegates_export.sources.run_folder import read_run
from tests.bench.conftest import QUICK, WHAT_IF
from tests.tiny import tiny_base, tiny_rows, tiny_run

NAMES = ("input_ids", "attention_mask", "token_type_ids")


def by_id(report: BenchReport) -> dict[str, ModelResult]:
    return {model.id: model for model in report.models}


def changed_run(source: Path, folder: Path, **fields: Any) -> Path:
    """A copy of a run, its levels left out, whose record says something else."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("levels"))
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, **fields}))
    return folder


def test_all_models_are_there_in_both_precisions_by_removed_share(measured: BenchReport) -> None:
    names = ["unpruned", "level-0.20", "what-if-0.3", "level-0.40"]
    assert [model.id for model in measured.models] == [form for name in names for form in (name, f"{name}-int8")]
    assert measured.shapes == ("1x8", "2x16")
    assert all(timing.rounds == 4 for model in measured.models for timing in model.timings)


def test_levels_land_on_their_share(measured: BenchReport) -> None:
    models = by_id(measured)
    assert models["unpruned"].removed == 0.0
    for name, share in (("level-0.20", 0.2), ("what-if-0.3", WHAT_IF), ("level-0.40", 0.4)):
        assert models[name].removed == pytest.approx(share, abs=0.01)
        assert models[name].kept_weights == models[f"{name}-int8"].kept_weights


def test_what_if_has_no_metric_and_trained_models_have_their_graphs_own(measured: BenchReport) -> None:
    for model in measured.models:
        assert model.trained == (model.kind != "what-if")
        assert (model.metric is None) == (model.kind == "what-if")
        assert model.metric_source == (None if model.kind == "what-if" else "graph")


def test_the_metric_of_a_float32_graph_is_the_one_that_training_saw(measured: BenchReport, gated_run: Path) -> None:
    recorded = read_run(gated_run).info
    assert by_id(measured)["level-0.40"].metric == pytest.approx(recorded.metrics[recorded.metric])


def test_numbers_of_a_model_fit_together(measured: BenchReport) -> None:
    unpruned = measured.models[0]
    for model in measured.models:
        for shape in measured.shapes:
            timing = model.timing(shape)
            assert model is not unpruned or timing.ratio == 1.0
            assert timing.ratio_low <= timing.ratio <= timing.ratio_high
            assert timing.p50_ms <= timing.p95_ms
            assert timing.rows_per_second == pytest.approx(int(shape.partition("x")[0]) * 1000 / timing.p50_ms)
        if model.precision == "int8":
            assert model.file_bytes < by_id(measured)[model.id.removesuffix("-int8")].file_bytes
    kept = [by_id(measured)[name].timing("2x16").kept_flops for name in ("unpruned", "level-0.20", "level-0.40")]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] == 1.0


def test_what_a_file_manager_leaves_among_the_levels_is_none(gated_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(gated_run, run)
    (run / "levels" / ".DS_Store").write_bytes(b"")
    (run / "levels" / ".ipynb_checkpoints").mkdir()
    assert [level.id for level in own_levels(read_run(run))] == ["level-0.20", "level-0.40"]


def test_other_evaluation_rows_are_used_whole(gated_run: Path, exported: Exported, tmp_path: Path) -> None:
    other, run = tiny_rows(tmp_path / "other", rows=21), read_run(gated_run)
    rows = evaluation_rows(run, NAMES, str(other))
    assert rows.words.startswith(f"{other}: 21 rows")
    metric, source = metric_of(exported, rows, run, threads=1)
    assert source == "graph"
    assert metric is not None
    assert metric * 21 == pytest.approx(round(metric * 21))


def test_other_evaluation_rows_that_are_not_there_are_refused(gated_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        evaluation_rows(read_run(gated_run), NAMES, str(tmp_path / "gone.tsv"))


@pytest.mark.parametrize("record", [{"data": "gone.tsv"}, {"data": None}, {"eval_sha256": "0" * 64}])
def test_where_the_rows_are_gone_or_changed_training_s_metric_stands_in(
    record: dict[str, str], gated_run: Path, exported: Exported, tmp_path: Path
) -> None:
    data = {**read_run(gated_run).info.data, **record}
    run = read_run(changed_run(gated_run, tmp_path / "run", data=data))
    rows = evaluation_rows(run, NAMES, None)
    assert rows.examples is None
    assert "as recorded in training" in rows.words
    same = dataclasses.replace(exported, candidate=dataclasses.replace(exported.candidate, run=run))
    assert metric_of(same, rows, run, threads=1) == (run.info.metrics[run.info.metric], "training")
    assert metric_of(dataclasses.replace(same, precision="int8"), rows, run, threads=1) == (None, None)


def test_training_s_metric_does_not_stand_in_for_a_model_that_saw_other_rows(
    gated_run: Path, exported: Exported, tmp_path: Path
) -> None:
    data = {**read_run(gated_run).info.data, "eval_sha256": "0" * 64}
    run = read_run(changed_run(gated_run, tmp_path / "run", data=data))
    assert metric_of(exported, evaluation_rows(run, NAMES, None), run, threads=1) == (None, None)


def test_a_baseline_with_gates_is_refused(gated_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="layout 'coupled'"):
        measure(BenchOptions(ckpt=gated_run, out=tmp_path / "report", baseline=gated_run, **QUICK))
    assert list(tmp_path.iterdir()) == []


def test_a_baseline_on_another_base_is_refused(gated_run: Path, tmp_path: Path) -> None:
    other = tiny_run(tmp_path / "run", tiny_base(tmp_path / "base", seed=5), "none")
    with pytest.raises(InputError, match=r"base tensors differ \(first: bert\.") as error:
        measure(BenchOptions(ckpt=gated_run, out=tmp_path / "bench" / "report", baseline=other, **QUICK))
    assert "\n" not in str(error.value)
    assert list((tmp_path / "bench").iterdir()) == []


def test_a_baseline_with_other_labels_is_refused(gated_run: Path, unpruned_run: Path, tmp_path: Path) -> None:
    other = changed_run(unpruned_run, tmp_path / "run", labels=["x", "y", "z"])
    with pytest.raises(InputError, match=r"has the labels \['x', 'y', 'z'\]"):
        measure(BenchOptions(ckpt=gated_run, out=tmp_path / "report", baseline=other, **QUICK))


def test_a_baseline_that_was_trained_longer_gets_a_note(gated_run: Path, unpruned_run: Path) -> None:
    from finegates_bench.measuring.levels import baseline_notes

    run, baseline = read_run(gated_run), read_run(unpruned_run)
    assert baseline_notes(run, baseline) == []
    longer = dataclasses.replace(baseline, info=dataclasses.replace(baseline.info, steps=99))
    assert baseline_notes(run, longer) == ["The unpruned model was trained for 99 steps, the run for 12."]


def test_a_shape_longer_than_the_model_takes_is_refused(gated_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1x65 is longer than the model allows \(64 tokens\)"):
        measure(BenchOptions(ckpt=gated_run, out=tmp_path / "report", **{**QUICK, "shapes": ("1x65",)}))


def test_an_existing_destination_is_refused_before_any_work(tmp_path: Path) -> None:
    out = tmp_path / "report"
    out.mkdir()
    (out / "report.json").write_text("{}")
    with pytest.raises(OutputError, match="--overwrite"):
        measure(BenchOptions(ckpt=tmp_path / "no run", out=out, **QUICK))


def test_nothing_is_left_when_measuring_fails(gated_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from finegates_bench.measuring import sweep

    def die(*_arguments: object) -> None:
        assert (tmp_path / ".report.scratch" / "run-unpruned" / "run.json").is_file()
        raise InputError("stop")

    monkeypatch.setattr(sweep, "export_candidate", die)
    with pytest.raises(InputError, match="stop"):
        measure(BenchOptions(ckpt=gated_run / "levels" / "0.20", out=tmp_path / "report", **QUICK))
    assert list(tmp_path.iterdir()) == []
