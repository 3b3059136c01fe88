"""A study trains what its file names, scores the exported graphs, compares the levels, and goes on where it ended."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
FRONTIER = ROOT / "benchmarks" / "frontier"
sys.path.insert(0, str(FRONTIER))

import study  # noqa: E402  # a script, not of a package
import study_report  # noqa: E402

SHORT = {"max-steps": 16, "batch-size": 8, "eval-steps": 4, "max-length": 24, "precision": "float32", "threads": 1}
STUDIES = sorted(FRONTIER.glob("*.yaml"))


def write_study(folder: Path) -> Path:
    runs = {
        "unpruned": {"recipe": "frontier-unpruned.yaml", "settings": SHORT},
        "gates": {
            "recipe": "frontier-walk.yaml",
            "teacher": "unpruned",
            "start": "unpruned",
            "settings": {**SHORT, "levels": [0.2, 0.5]},
        },
    }
    goals = [{"run": "gates@0.20", "against": "unpruned", "least": -100.0},
             {"run": "gates@0.50", "against": "unpruned", "least": 101.0}]  # fmt: skip
    path = folder / "tiny.yaml"
    content = {"title": "Tiny", "base": "tiny", "data": "rows", "seeds": [0], "runs": runs, "goals": goals}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.exhaustive
def test_a_study_runs_and_a_second_time_trains_nothing(
    base: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "rows").mkdir(parents=True)
    for name in ("train", "dev"):
        (tmp_path / "data" / "rows" / f"{name}.tsv").write_text(rows.read_text(encoding="utf-8"), encoding="utf-8")
    words = [
        "study.py", str(write_study(tmp_path)), "--base", f"tiny={base}", "--data", str(tmp_path / "data"),
        "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", words)
    study.main()
    result = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [row["run"] for row in result["rows"]] == ["unpruned", "gates@0.20", "gates@0.50"]
    assert [row["removed"] for row in result["rows"]] == [pytest.approx(share, abs=0.01) for share in (0.0, 0.2, 0.5)]
    assert all(row["metric"] == pytest.approx(row["metric_in_training"], abs=0.03) for row in result["rows"])
    page = (tmp_path / "out.md").read_text(encoding="utf-8")
    assert page.count("| met |") == page.count("| missed |") == 1
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*") if path.is_file()}
    study.main()
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*") if path.is_file()}

    score = tmp_path / "work" / "unpruned-0.score.json"
    known = json.loads(score.read_text(encoding="utf-8"))
    score.write_text(json.dumps({**known, "metric": 2.0, "run_sha256": "another run's"}), encoding="utf-8")
    study.main()
    assert json.loads(score.read_text(encoding="utf-8")) == known, "a score counts for the run that it was made of"

    monkeypatch.setattr(
        sys, "argv", [*words, "--work", str(tmp_path / "elsewhere"), "--seeds", "1", "--only", "unpruned"]
    )
    study.main()
    later = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["rows"]
    assert [row for row in later if row["seed"] == 0] == result["rows"]
    assert [(row["run"], row["seed"]) for row in later] == [
        ("unpruned", 0), ("unpruned", 1), ("gates@0.20", 0), ("gates@0.50", 0),
    ]  # fmt: skip


def test_differences_are_paired_by_seed_and_judged_by_their_mean() -> None:
    def row(run: str, seed: int, metric: float) -> dict[str, object]:
        facts = {"metric_name": "accuracy", "eval_rows": 10, "removed": 0.4, "steps": 5, "train_rows": 20}
        return {"run": run, "seed": seed, "metric": metric, "largest_difference": 1e-6, **facts}

    rows = [row("a", 0, 0.80), row("a", 1, 0.90), row("b", 1, 0.89), row("b", 0, 0.82)]
    goals = [{"run": "a", "against": "b", "least": least} for least in (-0.6, -0.4)]
    lines = study_report.markdown({"title": "T", "rows": rows, "goals": goals}).splitlines()
    told = [line for line in lines if line.startswith("| a | b |")]
    assert ["-2.00, +1.00" in line and "| -0.50 |" in line for line in told] == [True, True]
    assert [line.rsplit("|", 2)[1].strip() for line in told] == ["met", "missed"]


def test_of_a_perplexity_less_is_a_gain_in_per_cent() -> None:
    facts = {"metric_name": "perplexity", "eval_rows": 10, "removed": 0.4, "steps": 5, "train_rows": 20}
    rows = [
        {"run": run, "seed": 0, "metric": metric, "largest_difference": 1e-6, **facts}
        for run, metric in (("a", 22.0), ("b", 20.0))
    ]
    goals = [{"run": "a", "against": "b", "least": -15.0}, {"run": "b", "against": "a", "least": 10.0}]
    page = study_report.markdown({"title": "T", "rows": rows, "goals": goals})
    assert "| a | b | -10.00 | -10.00 | -15.00 | met |" in page
    assert "| b | a | +9.09 | +9.09 | +10.00 | missed |" in page
    assert "seeds, % better" in page


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_in_the_repository_reads_and_its_recipes_are_options(path: Path, tmp_path: Path) -> None:
    read = study.Study.read(path)
    for planned in read.runs.values():
        earlier = {
            name: tmp_path / run if run else None
            for name, run in (("teacher", planned.teacher), ("adapter", planned.start))
        }
        options = study._options(planned, "base", Path("data"), tmp_path, read.seeds[0], earlier)
        assert options.resume
        assert (options.teacher, options.adapter) == tuple(earlier.values())
    with pytest.raises(KeyError):
        {"known": "base"}[read.base]


def test_some_runs_of_a_study_can_be_chosen_with_the_teachers_they_need(tmp_path: Path) -> None:
    read = study.Study.read(write_study(tmp_path))
    assert list(read.of(["unpruned"]).runs) == ["unpruned"]
    with pytest.raises(ValueError, match=r"only: .'gates'. learn or start from a run"):
        read.of(["gates"])
    with pytest.raises(ValueError, match=r"only: .'nobody'. are not runs"):
        read.of(["nobody"])


def test_a_study_that_names_what_is_not_there_is_refused(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for change, words in (
        ({"goals": [{"run": "nobody@0.20", "against": "unpruned", "least": 0.0}]}, "nobody"),
        (
            {"runs": {"gates": {"recipe": "frontier-walk.yaml", "teacher": "unpruned"}}, "goals": []},
            "learns or starts from",
        ),
        ({"runs": {"gates": {"recipee": "frontier-walk.yaml"}}, "goals": []}, "recipee"),
    ):
        path.write_text(yaml.safe_dump({**content, **change}, sort_keys=False), encoding="utf-8")
        with pytest.raises(ValueError, match=words):
            study.Study.read(path)
