"""The picture of the studies: gains are paired by seed, and a folder without studies is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benchmarks" / "frontier"))

import curves  # a script, not of a package


def write_rows(path: Path, rows: list[tuple[str, int, float]]) -> None:
    named = [{"run": run, "seed": seed, "metric": metric, "metric_name": "accuracy"} for run, seed, metric in rows]
    path.write_text(json.dumps({"title": "T", "rows": named, "goals": []}), encoding="utf-8")


ROWS = [
    ("unpruned", 0, 0.90), ("unpruned", 1, 0.80), ("gates@0.20", 0, 0.89), ("gates@0.20", 1, 0.81),
    ("gates@0.40", 1, 0.78), ("gates@0.40", 2, 0.99), ("gates-40@0.40", 0, 0.99), ("magnitude@0.20", 0, 0.5),
    ("started@0.20", 0, 0.92), ("quarter-40@0.40", 0, 0.4),
]  # fmt: skip


def test_gains_are_paired_by_seed_and_of_walks_and_straight_runs_alone(tmp_path: Path) -> None:
    write_rows(tmp_path / "minilm-sst2.json", ROWS)
    curve, straight, started = curves.read_curves(tmp_path, "sst2")
    assert curve.points == {0.2: [pytest.approx(-1.0), pytest.approx(1.0)], 0.4: [pytest.approx(-2.0)]}
    assert curve.means() == [(0.0, 0.0), (0.2, pytest.approx(0.0)), (0.4, pytest.approx(-2.0))]
    assert (started.run, started.means()) == ("started", [(0.0, 0.0), (0.2, pytest.approx(2.0))])
    assert (straight.run, straight.straight, straight.points) == ("gates", True, {0.4: [pytest.approx(9.0)]})
    assert curves.read_curves(tmp_path, "cola") == []


def test_a_panel_is_drawn_for_every_task_that_was_studied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["curves.py", "--results", str(tmp_path), "--out", str(tmp_path / "curves")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match=r"holds no study.*run study\.py first"):
        curves.main()
    for name in ("minilm-sst2", "mpnet-cola"):
        write_rows(tmp_path / f"{name}.json", ROWS)
    curves.main()
    drawing = (tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert [title in drawing for title in curves.TASKS.values()] == [True, True, False]
    assert "straight to one share" in drawing and "straight, started" not in drawing
    assert (tmp_path / "curves.png").stat().st_size > 0
