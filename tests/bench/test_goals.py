"""Goals are judged by what reports say: times by medians, speeds by whole intervals, metrics by who is ahead."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from finegates_bench.measuring.results import BenchReport
from finegates_export.errors import InputError

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import goals  # noqa: E402  # a script, not of a package

TIME = {"what": "time", "report": "r", "models": ["pruned"], "shapes": ["8x128"], "at_most": 0.7}
SPEED = {"what": "speed", "report": "r", "speeds": {"pruned": 1.5}, "shapes": ["8x128"]}
METRIC = {"what": "metric", "report": "r", "models": ["pruned"], "against": "other"}


def timed(ratio: float, spread: float = 0.0, kept_flops: float | None = None) -> goals.Timed:
    return goals.Timed(100 * ratio, ratio, ratio - spread, ratio + spread, kept_flops)


def verdict(goal: dict[str, Any], **models: goals.Measured) -> goals.Verdict:
    (only,) = goals.read_goal(goal).judge(models)
    return only


@pytest.mark.parametrize(("ratio", "met"), [(0.70, True), (0.71, False)])
def test_a_time_is_judged_by_its_median(ratio: float, met: bool) -> None:
    models = {
        "unpruned": goals.Measured(0.9, {"8x128": timed(1.0, kept_flops=1.0)}),
        "pruned": goals.Measured(0.9, {"8x128": timed(ratio, 0.2, kept_flops=0.6)}),
    }
    assert verdict(TIME, **models).met is met


@pytest.mark.parametrize(
    ("of", "at_most", "met"),
    [("kept FLOPs", 1.11, True), ("kept FLOPs", 1.09, False), ("other", 1.33, True), ("other", 1.31, False)],
)
def test_a_limit_counts_in_kept_flops_or_in_another_models_time(of: str, at_most: float, met: bool) -> None:
    models = {
        "other": goals.Measured(0.9, {"8x128": timed(0.5)}),
        "pruned": goals.Measured(0.9, {"8x128": timed(0.66, kept_flops=0.6)}),
    }
    assert verdict({**TIME, "of": of, "at_most": at_most}, **models).met is met


@pytest.mark.parametrize(
    ("ratio", "spread", "met"),
    [(1 / 1.5, 0.01, True), (1 / 1.5, 0.04, False), (1 / 1.56, 0.01, False), (1 / 1.44, 0.01, False)],
    ids=["met", "wide interval", "too fast", "too slow"],
)
def test_a_speed_is_judged_by_its_whole_interval(ratio: float, spread: float, met: bool) -> None:
    assert verdict(SPEED, pruned=goals.Measured(0.9, {"8x128": timed(ratio, spread)})).met is met


@pytest.mark.parametrize(("metric", "met"), [(0.91, True), (0.90, False)])
def test_a_metric_has_to_be_above_the_others(metric: float, met: bool) -> None:
    assert verdict(METRIC, pruned=goals.Measured(metric, {}), other=goals.Measured(0.90, {})).met is met


@pytest.mark.parametrize(
    ("goal", "says"),
    [
        ({**TIME, "models": ["nobody"]}, "nobody at 8x128; it has pruned"),
        ({**TIME, "of": "nobody"}, "nobody"),
        ({**SPEED, "shapes": ["1x8"]}, "1x8"),
        ({**METRIC, "against": "nobody"}, "nobody with a metric"),
    ],
)
def test_a_report_without_the_model_is_refused(goal: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        verdict(goal, pruned=goals.Measured(0.9, {"8x128": timed(0.6)}))


@pytest.mark.parametrize(
    ("goal", "says"),
    [
        ({"what": "x", "report": "r"}, "'x' has none"),
        ({**TIME, "against": "other"}, "more than one"),
        ({**TIME, "at_most": 0.0}, "at_most"),
        ({**TIME, "shapes": []}, "no shape"),
        ({**SPEED, "speeds": {}}, "no model"),
        ({**METRIC, "models": []}, "no models"),
    ],
)
def test_a_goal_that_asks_nothing_is_refused(goal: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        goals.read_goal(goal)


def test_both_kinds_of_report_are_read(measured: BenchReport, tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(measured.to_json()), encoding="utf-8")
    models = goals.read_report(folder)
    assert [*models] == [model.id for model in measured.models]
    assert models["unpruned"].timings["1x8"].kept_flops == 1.0
    peers = tmp_path / "peers.json"
    timing = {"rounds": 3, "p50_ms": 2.0, "p95_ms": 3.0, "ratio": 0.5, "ratio_low": 0.4, "ratio_high": 0.6}
    peers.write_text(json.dumps({"models": [{"id": "theirs", "metric": 0.8, "timings": {"1x8": timing}}]}))
    assert goals.read_report(peers)["theirs"] == goals.Measured(0.8, {"1x8": goals.Timed(2.0, 0.5, 0.4, 0.6, None)})
    peers.write_text(json.dumps({"models": [{"id": "theirs"}]}))
    with pytest.raises(InputError, match="lacks 'metric'"):
        goals.read_report(peers)


def test_the_page_of_this_repository_is_what_its_reports_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = BENCHMARKS / "results" / "goals.md"
    monkeypatch.setattr(sys, "argv", ["goals.py", "--out", str(tmp_path / "goals.md")])
    goals.main()
    assert (tmp_path / "goals.md").read_text(encoding="utf-8") == page.read_text(encoding="utf-8")

    wrong = tmp_path / "goals.yaml"
    wrong.write_text(yaml.safe_dump([{**TIME, "report": "minilm-walk"}]), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["goals.py", "--goals", str(wrong), "--out", str(tmp_path / "goals.md")])
    with pytest.raises(SystemExit, match="InputError: the report has no pruned"):
        goals.main()
