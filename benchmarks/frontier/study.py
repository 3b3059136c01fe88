"""Accuracy against removed share: the runs of a study file, over its seeds, exported and scored from their ONNX files.

    python benchmarks/frontier/study.py STUDY.yaml --base minilm=FOLDER --data FOLDER --work FOLDER --out RESULTS

A study names runs by recipes of trainer/recipes/. A run may learn from another one (`teacher`) and start from its LoRA
and head (`start`); the goals compare a level with a run of the same seed. What was trained and scored is not done
again, so an interrupted study goes on; rows that RESULTS already has stay in it unless they are made anew, so a study
may be done a few runs or seeds at a time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from study_report import markdown

from finegates_export.common.files import sha256_file, write_json
from finegates_export.common.options import Options, check
from finegates_export.errors import FineGatesError, InputError
from finegates_export.sources.run_folder import RUN_JSON

RECIPES = Path(__file__).resolve().parents[2] / "trainer" / "recipes"
SCORE = "score.json"
"""Beside the runs, for each level: what its ONNX file gave."""


@dataclass(frozen=True)
class PlannedRun(Options):
    """One model of a study."""

    recipe: str
    """A file of trainer/recipes/."""
    base: str = ""
    """Another base than the study's, by the name that --base gives it."""
    teacher: str = ""
    """A run of the study to learn from."""
    start: str = ""
    """A run of the study whose LoRA and head this one starts from."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Options on top of the recipe's."""
    seeds: tuple[int, ...] = ()
    """Fewer seeds than the study's."""

    def needs(self) -> set[str]:
        """The runs that come first."""
        return {name for name in (self.teacher, self.start) if name}


@dataclass(frozen=True)
class Goal(Options):
    """A level compared with another run of the same seed."""

    run: str
    """RUN, or RUN@LEVEL."""
    against: str
    least: float
    """What the mean gain must reach: in points of the metric, or in per cent of one of which less is better."""

    def __post_init__(self) -> None:
        check(bool(self.run and self.against), "run", "a goal names two runs")


@dataclass(frozen=True)
class Study:
    """A study file."""

    title: str
    base: str
    data: str
    """A folder below --data."""
    seeds: tuple[int, ...]
    runs: dict[str, PlannedRun]
    goals: tuple[Goal, ...] = ()

    def of(self, names: list[str]) -> Study:
        """The study with some of its runs.

        Raises:
            ValueError: a name is no run, or what a run learns or starts from is not among them.
        """
        unknown = sorted(set(names) - set(self.runs))
        check(not unknown, "only", f"{unknown} are not runs; the study has {', '.join(self.runs)}")
        runs = {name: run for name, run in self.runs.items() if name in names}
        lonely = [name for name, run in runs.items() if not run.needs() <= set(runs)]
        check(not lonely, "only", f"{lonely} learn or start from a run that is not among {', '.join(names)}")
        return dataclasses.replace(self, runs=runs)

    @classmethod
    def read(cls, path: Path) -> Study:
        """Read a study file.

        Raises:
            ValueError: something in it is not understood.
        """
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        runs = {name: PlannedRun.from_json(values) for name, values in content["runs"].items()}
        for number, (name, run) in enumerate(runs.items()):
            unknown = sorted(run.needs() - set([*runs][:number]))
            check(not unknown, "teacher", f"{name} learns or starts from {unknown}, which no run before it is called")
        goals = tuple(Goal.from_json(goal) for goal in content.get("goals", []))
        compared = {goal.run.partition("@")[0] for goal in goals} | {goal.against.partition("@")[0] for goal in goals}
        check(compared <= set(runs), "goals", f"{sorted(compared - set(runs))} are not runs of {path.name}")
        return cls(content["title"], content["base"], content["data"], tuple(content["seeds"]), runs, goals)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--base", action="append", required=True, help="NAME=FOLDER, once for each base of the study")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the study's rows")
    parser.add_argument("--work", type=Path, required=True, help="where runs go")
    parser.add_argument("--out", type=Path, required=True, help="results, without suffix: .json and .md are written")
    parser.add_argument("--seeds", help="some of the study's seeds, comma-separated")
    parser.add_argument("--only", help="some of its runs, comma-separated; a teacher among them comes first")
    arguments = parser.parse_args()
    try:
        study = whole = Study.read(arguments.study)
        bases = dict(pair.split("=", 1) for pair in arguments.base)
        if arguments.only:
            study = study.of(arguments.only.split(","))
        seeds = tuple(map(int, arguments.seeds.split(","))) if arguments.seeds else study.seeds
        for seed in seeds:
            for row in conduct(study, seed, bases, arguments.data / study.data, arguments.work):
                write_results(whole, with_row(earlier_rows(arguments.out), row), arguments.out)
    except (FineGatesError, ValueError, KeyError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(arguments.out.with_suffix(".md").read_text(encoding="utf-8"))


def conduct(study: Study, seed: int, bases: dict[str, str], data: Path, work: Path) -> Iterator[dict[str, Any]]:
    """Train and score all runs of one seed, in the file's order; one row a level."""
    from finegates_trainer import train
    from finegates_trainer.running.progress import TerminalReporter

    folders: dict[str, Path] = {}
    for name, planned in study.runs.items():
        if planned.seeds and seed not in planned.seeds:
            continue
        print(f"\n{study.title}: {name}, seed {seed}", file=sys.stderr)
        out = work / f"{name}-{seed}"
        earlier = {"teacher": folders.get(planned.teacher), "adapter": folders.get(planned.start)}
        run = train(_options(planned, bases[planned.base or study.base], data, out, seed, earlier), TerminalReporter())
        folders[name] = out
        walked = run.levels() != [run.folder]
        for level in run.levels():
            row = f"{name}@{level.name}" if walked else name
            yield {"run": row, "seed": seed, **scored(level, work / f"{row}-{seed}.{SCORE}")}


def scored(level: Path, remembered: Path) -> dict[str, Any]:
    """What a level's exported file gives on the run's evaluation rows.

    Args:
        level: a run folder.
        remembered: the file that keeps the answer, for this very run.
    """
    record = sha256_file(level / RUN_JSON)
    if remembered.is_file():
        known = dict(json.loads(remembered.read_text(encoding="utf-8")))
        if known.get("run_sha256") == record:
            return known
    from finegates_bench.measuring.quality import evaluation_rows, graph_metric
    from finegates_export import ExportOptions, export
    from finegates_export.sources.assemble import base_of
    from finegates_export.sources.run_folder import read_run

    run = read_run(level)
    base = base_of(run)
    rows = evaluation_rows(run, base.family().input_names(base.config()), None)
    if rows.examples is None:
        raise InputError(f"{level}: the evaluation rows cannot be read: {rows.words}")
    with tempfile.TemporaryDirectory(dir=remembered.parent) as scratch:
        graph = Path(scratch) / "model.onnx"
        report = export(ExportOptions(ckpt=level, out=graph))
        metric = graph_metric(graph, rows.examples, run, threads=2)
    exact = [link for link in report.links if link.exact]
    result = {
        "metric_name": run.info.metric,
        "metric": metric,
        "metric_in_training": run.info.metrics[run.info.metric],
        "removed": report.plan.removed,
        "nominal": run.info.nominal,
        "steps": run.info.steps,
        "train_rows": run.info.data["train_rows"],
        "eval_rows": run.info.data["eval_rows"],
        "trained_parameters": run.info.trained_parameters,
        "settled": run.info.settled,
        "largest_difference": max(max(link.relative, link.hidden_relative or 0.0) for link in exact),
        "command": run.info.command,
        "run_sha256": record,
    }
    write_json(remembered, result)
    return result


def earlier_rows(out: Path) -> list[dict[str, Any]]:
    """The rows of a study's results, none where nothing was written yet."""
    results = out.with_suffix(".json")
    return list(json.loads(results.read_text(encoding="utf-8"))["rows"]) if results.is_file() else []


def with_row(rows: list[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows with one more, which takes the place of an earlier one of the same run and seed."""
    others = [other for other in rows if (other["run"], other["seed"]) != (row["run"], row["seed"])]
    return [*others, row]


def write_results(study: Study, rows: list[dict[str, Any]], out: Path) -> None:
    """The rows as JSON, and as tables, in the order of the study's runs and of their seeds."""
    from finegates_export.common.stamp import versions

    out.parent.mkdir(parents=True, exist_ok=True)
    order = list(study.runs)
    rows = [row for row in rows if _run_of(row) in order]
    rows.sort(key=lambda row: (order.index(_run_of(row)), row["run"], row["seed"]))
    goals = [goal.to_json() for goal in study.goals]
    result = {"title": study.title, "rows": rows, "goals": goals, "versions": versions()}
    write_json(out.with_suffix(".json"), result)
    out.with_suffix(".md").write_text(markdown(result), encoding="utf-8")


def _run_of(row: dict[str, Any]) -> str:
    return str(row["run"]).partition("@")[0]


def _options(planned: PlannedRun, base: str, data: Path, out: Path, seed: int, earlier: dict[str, Path | None]) -> Any:
    from finegates_trainer import TrainOptions

    recipe = yaml.safe_load((RECIPES / planned.recipe).read_text(encoding="utf-8"))
    settings = {name.replace("-", "_"): value for name, value in {**recipe, **planned.settings}.items()}
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    return TrainOptions(base=base, data=str(data), out=out, seed=seed, resume=True, **earlier, **settings)


if __name__ == "__main__":
    main()
