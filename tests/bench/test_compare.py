"""Two reports side by side: what is matched, what is judged, what is refused."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finegates_bench import BenchReport, CompareOptions, compare, read_report
from finegates_bench.cli import main
from finegates_bench.measuring.results import ModelResult
from finegates_export.common.files import write_json
from finegates_export.errors import InputError

pytestmark = pytest.mark.slow  # they compare a whole measurement
Save = Callable[[BenchReport], Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes a report's JSON into a folder of its own."""

    def write(report: BenchReport) -> Path:
        folder = tmp_path / f"report-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        write_json(folder / "report.json", report.to_json())
        return folder

    return write


def slowed(report: BenchReport, factor: float, *names: str) -> BenchReport:
    """The report of a day on which some models took so many times as long."""

    def model(entry: ModelResult) -> ModelResult:
        changed = {timing: timing.p50_ms * factor for timing in entry.timings}
        timings = (dataclasses.replace(t, p50_ms=ms, ratio=t.ratio * factor) for t, ms in changed.items())
        return dataclasses.replace(entry, timings=tuple(timings)) if entry.id in names else entry

    return dataclasses.replace(report, models=tuple(map(model, report.models)))


def on_a_slow_day(report: BenchReport, factor: float) -> BenchReport:
    """Every model took so many times as long: no ratio changed."""

    def model(entry: ModelResult) -> ModelResult:
        timings = (dataclasses.replace(timing, p50_ms=timing.p50_ms * factor) for timing in entry.timings)
        return dataclasses.replace(entry, timings=tuple(timings))

    return dataclasses.replace(report, models=tuple(map(model, report.models)))


def stamped(report: BenchReport, **changes: Any) -> BenchReport:
    return dataclasses.replace(report, stamp=dataclasses.replace(report.stamp, **changes))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["finegates-bench", "compare", *map(str, arguments)])
    try:
        main()
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def test_models_are_matched_by_id_at_every_shape(measured: BenchReport, save: Save) -> None:
    less = dataclasses.replace(measured, models=measured.models[:-1])
    before, after = save(less), save(slowed(measured, 2.0, "level-0.20"))
    found = compare(CompareOptions(before, after / "report.json"))
    assert [(pair.shape, pair.model) for pair in found.pairs] == [
        (shape, model.id) for shape in measured.shapes for model in less.models
    ]
    assert (found.only_before, found.only_after) == ((), ("level-0.40-int8",))
    for pair in found.pairs:
        expected = 2.0 if pair.model == "level-0.20" else 1.0
        assert (pair.milliseconds_quotient, pair.ratio_quotient) == pytest.approx((expected, expected))
        assert pair.before.metric == pair.after.metric
    assert found.limit is None
    assert found.slower == ()
    assert "Only after: level-0.40-int8." in str(found)


def test_a_slower_model_is_status_1_and_named(
    measured: BenchReport, save: Save, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = save(measured), save(slowed(measured, 1.2, "level-0.20"))
    assert run(monkeypatch, before, after, "--fail-above", 1.05) == 1
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert "level-0.20 at 1x8 (1.200), level-0.20 at 2x16 (1.200)" in printed.err
    assert "level-0.40" not in printed.err
    assert "## 1x8" in printed.out
    assert run(monkeypatch, before, after, "--fail-above", 1.05, "--shapes", "2x16") == 1
    assert "1x8" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("arguments", [("--fail-above", 1.2001), ("--fail-above", 1.05, "--shapes", "1x8"), ()])
def test_within_the_limit_is_status_0(
    arguments: tuple[object, ...], measured: BenchReport, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the shape that did not get slower, under a limit that is not exceeded, or where nothing is judged."""
    slow = slowed(measured, 1.2, "level-0.20")
    kept = {model.id: model for model in measured.models}
    models = (dataclasses.replace(m, timings=(kept[m.id].timings[0], m.timings[1])) for m in slow.models)
    after = save(dataclasses.replace(slow, models=tuple(models)))
    assert run(monkeypatch, save(measured), after, *arguments) == 0
    assert run(monkeypatch, save(measured), after, "--fail-above", 1.19) == 1


def test_the_same_report_is_not_slower_than_itself_and_a_faster_one_passes(measured: BenchReport, save: Save) -> None:
    own = save(measured)
    assert compare(CompareOptions(own, own, fail_above=1.0)).slower == ()
    faster = save(slowed(measured, 0.5, "level-0.40"))
    assert compare(CompareOptions(own, faster, fail_above=1.0)).slower == ()
    assert len(compare(CompareOptions(own, faster, fail_above=0.9)).slower) > 0


def test_a_slow_day_is_no_slower_model_unless_milliseconds_are_judged(measured: BenchReport, save: Save) -> None:
    before, after = save(measured), save(on_a_slow_day(measured, 1.5))
    relative = compare(CompareOptions(before, after, fail_above=1.05))
    assert relative.slower == ()
    assert all(pair.milliseconds_quotient == pytest.approx(1.5) for pair in relative.pairs)
    absolute = compare(CompareOptions(before, after, fail_above=1.05, absolute=True))
    assert len(absolute.slower) == len(absolute.pairs)


@pytest.mark.parametrize(
    "change",
    [{"processor": "another"}, {"cores": 96}, {"threads": 7}, {"provider": "cuda"}, {"accelerator": "a GPU"}],
)
def test_another_machine_is_named_and_its_milliseconds_are_not_judged(
    change: dict[str, Any], measured: BenchReport, save: Save
) -> None:
    before, after = save(measured), save(stamped(measured, **change))
    ((name, value),) = change.items()
    told = f"{name}: {getattr(measured.stamp, name) or 'none'} before, {value} after"
    notes = compare(CompareOptions(before, after, fail_above=1.05)).notes
    assert notes == (f"Measured on different machines, {told}.",)
    with pytest.raises(InputError, match="different machines") as error:
        compare(CompareOptions(before, after, fail_above=1.05, absolute=True))
    assert told in str(error.value)


def test_other_versions_bases_and_rows_are_named(measured: BenchReport, save: Save) -> None:
    older = stamped(measured, versions={**measured.stamp.versions, "onnxruntime": "1.0", "torch": "1.0"})
    portable = (
        dataclasses.replace(model, export=dataclasses.replace(model.export, target="portable"))
        for model in measured.models
    )
    other = dataclasses.replace(older, base="another", eval_rows="other rows", models=tuple(portable))
    notes = "\n".join(compare(CompareOptions(save(measured), save(other))).notes)
    assert "onnxruntime:" in notes
    assert "torch:" not in notes, "it made no time"
    assert "Not the same target: 'ort-cpu' before, 'portable' after." in notes
    assert f"Not the same base: '{measured.base}' before, 'another' after." in notes
    assert "Not the same rows for the metric" in notes
    assert "machines" not in notes
    own = save(measured)
    assert compare(CompareOptions(own, own)).notes == ()


def test_shapes_of_one_report_alone_are_named_or_refused(measured: BenchReport, save: Save) -> None:
    models = tuple(dataclasses.replace(model, timings=model.timings[:1]) for model in measured.models)
    before, after = save(measured), save(dataclasses.replace(measured, models=models))
    assert compare(CompareOptions(before, after)).notes == ("Shapes only before: 2x16.",)
    with pytest.raises(InputError, match="has no 2x16; it has 1x8"):
        compare(CompareOptions(before, after, shapes=("2X16",)))
    others = tuple(dataclasses.replace(model, timings=model.timings[1:]) for model in measured.models)
    with pytest.raises(InputError, match="no shape in common"):
        compare(CompareOptions(after, save(dataclasses.replace(measured, models=others))))


def test_reports_without_a_common_model_are_refused(measured: BenchReport, save: Save) -> None:
    first, last = (
        dataclasses.replace(measured, models=models) for models in (measured.models[:1], measured.models[1:])
    )
    with pytest.raises(InputError, match="no model in common: unpruned before, unpruned-int8"):
        compare(CompareOptions(save(first), save(last)))


def test_json_has_both_sides_and_the_verdict(
    measured: BenchReport, save: Save, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = save(measured), save(slowed(measured, 2.0, "level-0.20"))
    assert run(monkeypatch, before, after, "--fail-above", 1.5, "--json") == 1
    values = json.loads(capsys.readouterr().out)
    slower = [pair for pair in values["pairs"] if pair["slower"]]
    assert {pair["model"] for pair in slower} == {"level-0.20"}
    assert slower[0]["after"]["p50_ms"] == pytest.approx(2 * slower[0]["before"]["p50_ms"])
    assert (values["limit"], values["absolute"]) == (1.5, False)
    assert values["verdict"].startswith("slower than 1.5 times before (ratio to unpruned): level-0.20 at 1x8")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("# Words", "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        ("[]", "not a benchmark report"),
        ('{"plan": 1}', "not a benchmark report"),
        ('{"schema_version": 1, "stamp": {}, "models": [1]}', "schema version 1, but this version reads 2"),
    ],
)
def test_what_is_no_report_is_one_line_that_names_it_and_status_2(
    content: str | bytes | None,
    message: str,
    measured: BenchReport,
    save: Save,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "other.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert run(monkeypatch, save(measured), path, "--fail-above", 1.05) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert str(path) in printed.err
    assert message in printed.err


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"fail_above": 0.0}, "fail-above"),
        ({"fail_above": float("nan")}, "fail-above"),
        ({"shapes": ("8by128",)}, "shapes"),
        ({"shapes": ("1x8", "1X8")}, "shapes"),
        ({"absolute": True}, "absolute"),
    ],
)
def test_bad_values_name_their_field(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        CompareOptions(Path("a"), Path("b"), **settings)


def test_a_report_is_read_from_its_folder_and_from_its_file(measured: BenchReport, save: Save) -> None:
    folder = save(measured)
    assert read_report(folder) == read_report(folder / "report.json") == measured
