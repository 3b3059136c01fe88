"""The command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from finegates_bench.cli import main
from finegates_bench.measuring.results import BenchReport
from tests.bench.test_measure import changed_run


def bench(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["finegates-bench", *map(str, arguments)])
    main()


@pytest.mark.slow
def test_it_measures_writes_and_prints(
    gated_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a baseline, and without the rows that training saw."""
    run, out = changed_run(gated_run / "levels" / "0.20", tmp_path / "run", data={}), tmp_path / "bench" / "report"
    arguments = (
        "--ckpt",
        run,
        "--out",
        out,
        "--what-if",
        "0.0",
        "--shapes",
        "1x4,2x8",
        "--rounds",
        3,
        "--seconds",
        0,
        "--processes",
        1,
    )
    bench(monkeypatch, *arguments, "--threads", 1)
    printed = capsys.readouterr()
    assert "exporting unpruned" in printed.err
    assert "timing 2 models at 2x8" in printed.err
    told = printed.out.splitlines()
    assert "## Models" in told
    assert set(told[:-1]) <= set((out / "report.md").read_text().splitlines())
    assert [path.name for path in out.parent.iterdir()] == ["report"]

    report = BenchReport.from_json(json.loads((out / "report.json").read_text()))
    assert report.stamp.command.startswith("finegates-bench --ckpt ")
    assert report.stamp.command.endswith("--threads 1")
    unpruned, level = report.models
    assert (unpruned.kind, unpruned.trained, unpruned.removed, unpruned.metric) == ("unpruned", False, 0.0, None)
    assert (level.kind, level.metric_source) == ("level", "training")
    assert any("No baseline" in note for note in report.notes)
    assert any("as recorded in training" in note for note in report.notes)


@pytest.mark.parametrize(
    ("extra", "message"), [(("--shapes", "8by128"), "'8by128' is not a shape"), ((), "holds no run.json")]
)
def test_bad_input_is_one_line_and_status_2(
    extra: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        bench(monkeypatch, "--ckpt", tmp_path, "--out", tmp_path / "report", *extra)
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert said.count("\n") == 1
    assert message in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", [("--ckpt", "run", "--out", "out"), ("table", "--base", "base", "--shape", "1x8", "--out", "out")]
)
def test_plots_that_could_not_be_drawn_stop_a_measurement_before_it_begins(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        bench(monkeypatch, *words)
    assert ended.value.code == 2
    assert "matplotlib is not installed. Run: pip install 'finegates-export[bench]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
