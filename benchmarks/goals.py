"""The goals of goals.yaml against the reports in benchmarks/results/: what was asked, what was measured, met or missed.

Times and metrics are judged by their medians, the interval stands beside them; a speed that was asked for by its whole
interval.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import yaml

from finegates_bench.measuring.results import BenchReport
from finegates_export.common.options import Options, check
from finegates_export.errors import FineGatesError, InputError

HERE = Path(__file__).resolve().parent
KEPT_FLOPS, UNPRUNED = "kept FLOPs", "unpruned"


@dataclass(frozen=True)
class Timed:
    """A model at one shape."""

    p50_ms: float
    ratio: float
    """Time over that of the report's reference, the unpruned model, and the 95 % interval."""
    ratio_low: float
    ratio_high: float
    kept_flops: float | None
    """None of other tools' models."""


@dataclass(frozen=True)
class Measured:
    """What a report says of a model."""

    metric: float | None
    timings: dict[str, Timed]
    """By shape."""


@dataclass(frozen=True)
class Verdict:
    """A goal at one model and shape: a line of its table."""

    cells: tuple[str, ...]
    met: bool


@dataclass(frozen=True)
class Goal(Options):
    """A line of the goals file: something that every combination of its models and shapes has to reach."""

    title: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    what: str
    report: str
    """A folder of the results with a report.json, or a file of the comparison with other tools."""

    def judge(self, models: dict[str, Measured]) -> Iterator[Verdict]:
        """A verdict for each combination.

        Raises:
            InputError: the report lacks a model or a shape.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class TimeGoal(Goal):
    """Not slower than a multiple of something else."""

    title = "Time"
    columns = ("model", "shape", "asked, at most", "measured", "time over unpruned", "kept FLOPs")
    models: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    at_most: float = 0.0
    of: str = UNPRUNED
    """What the limit is counted in: a model's time, or `kept FLOPs`."""

    def __post_init__(self) -> None:
        check(bool(self.models and self.shapes), "goals", f"{self.what!r} names no model or no shape")
        check(self.at_most > 0, "at_most", f"must be positive, got {self.at_most}")

    def judge(self, models: dict[str, Measured]) -> Iterator[Verdict]:
        """One verdict per model and shape."""
        unit = "" if self.of == UNPRUNED else f" x {self.of}"
        for name, shape in product(self.models, self.shapes):
            timed = _timed(models, name, shape)
            if self.of == KEPT_FLOPS and timed.kept_flops:
                quotient = timed.ratio / timed.kept_flops
            else:
                quotient = timed.ratio / _timed(models, self.of, shape).ratio
            yield Verdict(
                (
                    self.what, name, shape, f"{self.at_most:.2f}{unit}", f"{quotient:.2f}",
                    f"{timed.ratio:.3f} ({timed.ratio_low:.3f} to {timed.ratio_high:.3f})",
                    "-" if timed.kept_flops is None else f"{timed.kept_flops:.3f}",
                ),
                quotient <= self.at_most,
            )  # fmt: skip


@dataclass(frozen=True)
class SpeedGoal(Goal):
    """As many times as fast as was asked for, by the whole interval."""

    title = "Speeds that were asked for"
    columns = ("model", "shape", "asked", "measured", "95 % interval")
    speeds: dict[str, float] = field(default_factory=dict)
    """Models, and how many times as fast as unpruned each was to be."""
    shapes: tuple[str, ...] = ()
    within: float = 0.05
    """Share of the speed asked for that either end of the interval may be off."""

    def __post_init__(self) -> None:
        check(bool(self.speeds and self.shapes), "goals", f"{self.what!r} names no model or no shape")

    def judge(self, models: dict[str, Measured]) -> Iterator[Verdict]:
        """One verdict per model and shape."""
        for (name, asked), shape in product(self.speeds.items(), self.shapes):
            timed = _timed(models, name, shape)
            low, high = 1 / timed.ratio_high, 1 / timed.ratio_low
            yield Verdict(
                (
                    self.what, name, shape, f"{asked:g}x, within {self.within:.0%}", f"{1 / timed.ratio:.2f}x",
                    f"{low:.2f} to {high:.2f}",
                ),
                asked * (1 - self.within) <= low and high <= asked * (1 + self.within),
            )  # fmt: skip


@dataclass(frozen=True)
class MetricGoal(Goal):
    """A better metric than another model's."""

    title = "Accuracy"
    columns = ("model", "against", "asked", "measured")
    models: tuple[str, ...] = ()
    against: str = ""

    def __post_init__(self) -> None:
        check(bool(self.models and self.against), "goals", f"{self.what!r} names no models to compare")

    def judge(self, models: dict[str, Measured]) -> Iterator[Verdict]:
        """One verdict per model."""
        theirs = _metric(models, self.against)
        for name in self.models:
            mine = _metric(models, name)
            yield Verdict((self.what, name, self.against, f"above {theirs:.4f}", f"{mine:.4f}"), mine > theirs)


GOALS: dict[str, type[Goal]] = {"at_most": TimeGoal, "speeds": SpeedGoal, "against": MetricGoal}
"""By the field that only goals of this kind have."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--goals", type=Path, default=HERE / "goals.yaml")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "goals.md")
    arguments = parser.parse_args()
    try:
        goals = [read_goal(values) for values in yaml.safe_load(arguments.goals.read_text(encoding="utf-8"))]
        page = markdown([(goal, [*goal.judge(read_report(arguments.results / goal.report))]) for goal in goals])
    except (FineGatesError, ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    arguments.out.write_text(page, encoding="utf-8")
    print(page)


def read_goal(values: dict[str, Any]) -> Goal:
    """A goal of the file.

    Raises:
        ValueError: it is of no kind, or something in it is not understood.
    """
    kinds = [kind for name, kind in GOALS.items() if name in values]
    check(len(kinds) == 1, "goals", f"{values.get('what')!r} has none, or more than one, of {', '.join(GOALS)}")
    return kinds[0].from_json(values)


def read_report(path: Path) -> dict[str, Measured]:
    """The models of a report, by their ids.

    Args:
        path: a folder of `finegates-bench`, or the JSON file of `make bench-peers`.

    Raises:
        InputError: it is neither.
    """
    file = path / "report.json" if path.is_dir() else path
    values = json.loads(file.read_text(encoding="utf-8"))
    if path.is_dir():
        return {
            model.id: Measured(model.metric, {timing.shape: _of(vars(timing)) for timing in model.timings})
            for model in BenchReport.from_json(values).models
        }
    try:
        return {
            model["id"]: Measured(model["metric"], {shape: _of(timing) for shape, timing in model["timings"].items()})
            for model in values["models"]
        }
    except (KeyError, TypeError) as error:
        raise InputError(f"{file} is no comparison with other tools: it lacks {error}; write it anew") from error


def _of(timing: dict[str, Any]) -> Timed:
    named = {name: timing[name] for name in ("p50_ms", "ratio", "ratio_low", "ratio_high")}
    return Timed(**named, kept_flops=timing.get("kept_flops"))


def _timed(models: dict[str, Measured], name: str, shape: str) -> Timed:
    if name not in models or shape not in models[name].timings:
        raise InputError(f"the report has no {name} at {shape}; it has {', '.join(models)}")
    return models[name].timings[shape]


def _metric(models: dict[str, Measured], name: str) -> float:
    metric = models[name].metric if name in models else None
    if metric is None:
        raise InputError(f"the report has no {name} with a metric; it has {', '.join(models)}")
    return metric


def markdown(judged: list[tuple[Goal, list[Verdict]]]) -> str:
    """The page: a table for each kind of goal."""
    lines = [
        "# Goals and measurements",
        "",
        "Time over the unpruned model's (beside other tools: over the unpruned model as a user has it today), medians "
        "of interleaved rounds; the reports beside this page have the rest. `python benchmarks/goals.py` writes it "
        "from them.",
    ]
    for kind in GOALS.values():
        verdicts = [verdict for goal, found in judged if isinstance(goal, kind) for verdict in found]
        if verdicts:
            lines += ["", f"## {kind.title}", "", f"| goal | {' | '.join(kind.columns)} | |"]
            lines.append("|---" * (len(kind.columns) + 2) + "|")
            lines += [f"| {' | '.join(one.cells)} | {'met' if one.met else '**missed**'} |" for one in verdicts]
    verdicts = [verdict for _, found in judged for verdict in found]
    return "\n".join([*lines, "", f"{sum(one.met for one in verdicts)} of {len(verdicts)} met."]) + "\n"


if __name__ == "__main__":
    main()
