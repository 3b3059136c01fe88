"""The goals of goals.yaml against the reports in benchmarks/results/: what was asked, what was measured, met or missed.

A goal is judged by its median; the interval stands beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import yaml

from finegates_bench.results import BenchReport, ModelResult
from finegates_export.errors import FineGatesError
from finegates_export.options import Options, check

HERE = Path(__file__).resolve().parent
KEPT_FLOPS, UNPRUNED = "kept FLOPs", "unpruned"


@dataclass(frozen=True)
class Goal(Options):
    """One line of the goals file: a limit for every combination of its models and shapes."""

    what: str
    report: str
    """A folder of the results."""
    models: tuple[str, ...]
    shapes: tuple[str, ...]
    at_most: float
    of: str = UNPRUNED
    """What the limit is counted in: a model's time, or `kept FLOPs`."""

    def __post_init__(self) -> None:
        check(bool(self.models and self.shapes), "goals", f"{self.what!r} names no model or no shape")
        check(self.at_most > 0, "at_most", f"must be positive, got {self.at_most}")


@dataclass(frozen=True)
class Verdict:
    """A goal at one model and shape."""

    goal: Goal
    model: str
    shape: str
    quotient: float
    """What `at_most` limits."""
    ratio: float
    """Time over the unpruned model's, and its 95 % interval."""
    low: float
    high: float
    kept_flops: float

    @property
    def met(self) -> bool:
        """Whether the median is within the limit."""
        return self.quotient <= self.goal.at_most


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--goals", type=Path, default=HERE / "goals.yaml")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "goals.md")
    arguments = parser.parse_args()
    try:
        goals = [Goal.from_json(values) for values in yaml.safe_load(arguments.goals.read_text(encoding="utf-8"))]
        verdicts = [verdict for goal in goals for verdict in judge(goal, arguments.results)]
    except (FineGatesError, ValueError, KeyError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    arguments.out.write_text(markdown(verdicts), encoding="utf-8")
    print(markdown(verdicts))


def judge(goal: Goal, results: Path) -> Iterator[Verdict]:
    """Every combination of a goal's models and shapes."""
    values = json.loads((results / goal.report / "report.json").read_text(encoding="utf-8"))
    models = {model.id: model for model in BenchReport.from_json(values).models}
    for name, shape in product(goal.models, goal.shapes):
        timing = models[name].timing(shape)
        measured = _in_units(goal.of, models[name], models, shape)
        yield Verdict(
            goal, name, shape, measured, timing.ratio, timing.ratio_low, timing.ratio_high, timing.kept_flops
        )  # fmt: skip


def _in_units(of: str, model: ModelResult, models: dict[str, ModelResult], shape: str) -> float:
    timing = model.timing(shape)
    if of == KEPT_FLOPS:
        return timing.ratio / timing.kept_flops
    return timing.p50_ms / models[of].timing(shape).p50_ms


def markdown(verdicts: list[Verdict]) -> str:
    """The page."""
    lines = [
        "# Goals and measurements",
        "",
        "Time over the unpruned model's, medians of interleaved rounds; the reports beside this page have the rest. "
        "`python benchmarks/goals.py` writes it from them.",
        "",
        "| goal | model | shape | asked, at most | measured | time over unpruned | kept FLOPs | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in verdicts:
        unit = "" if one.goal.of == UNPRUNED else f" x {one.goal.of}"
        lines.append(
            f"| {one.goal.what} | {one.model} | {one.shape} | {one.goal.at_most:.2f}{unit} | {one.quotient:.2f} "
            f"| {one.ratio:.3f} ({one.low:.3f} to {one.high:.3f}) | {one.kept_flops:.3f} "
            f"| {'met' if one.met else '**missed**'} |"
        )
    met = sum(one.met for one in verdicts)
    return "\n".join([*lines, "", f"{met} of {len(verdicts)} met."]) + "\n"


if __name__ == "__main__":
    main()
