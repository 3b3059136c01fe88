"""Which models are measured: the run's levels, the unpruned model, what-ifs. Each is a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finegates_bench.results import Kind
from finegates_export.errors import InputError
from finegates_export.gates.run_folder import Run, read_run


@dataclass(frozen=True)
class Candidate:
    """A run that is about to be exported and measured."""

    id: str
    kind: Kind
    trained: bool
    run: Run
    asked: float | None = None
    """The removed share that a what-if was asked for."""


def own_levels(run: Run) -> list[Candidate]:
    """The run's settled levels, ascending; the run itself where it walked none.

    Raises:
        InputError: a level was not trained on the run's base, or for its labels.
        RunFolderError: a level is damaged.
    """
    found = []
    for folder in run.levels():
        level = run if folder == run.folder else read_run(folder)
        _check_same_model(run, level, f"level {folder}")
        share = folder.name if level is not run else f"{level.info.removed:.2f}"
        found.append(Candidate(f"level-{share}", "level", True, level))
    return found


def read_baseline(run: Run, folder: Path) -> Candidate:
    """A run with layout none, on the same base and for the same labels: the unpruned model.

    Raises:
        InputError: it has gates, or another base, task or labels.
        RunFolderError: it is missing or damaged.
    """
    baseline = read_run(folder)
    if baseline.info.layout != "none":
        raise InputError(
            f"baseline {folder} has the layout {baseline.info.layout!r}; the unpruned model is a run with "
            "--layout none, trained on the same base and rows"
        )
    _check_same_model(run, baseline, f"baseline {folder}")
    return Candidate("unpruned", "unpruned", True, baseline)


def baseline_notes(run: Run, baseline: Run) -> list[str]:
    """How the training of the unpruned model differed from the run's, where that matters to the comparison."""
    notes = []
    if baseline.info.steps != run.info.steps:
        notes.append(f"The unpruned model was trained for {baseline.info.steps} steps, the run for {run.info.steps}.")
    counts = [info.data.get("train_rows") for info in (baseline.info, run.info)]
    if counts[0] != counts[1]:
        notes.append(f"The unpruned model was trained on {counts[0]} rows, the run on {counts[1]}.")
    if baseline.info.max_length != run.info.max_length:
        lengths = f"{baseline.info.max_length} tokens a row, the run at {run.info.max_length}"
        notes.append(f"The unpruned model was trained at {lengths}; metrics are computed at the run's.")
    return notes


def _check_same_model(run: Run, other: Run, name: str) -> None:
    mine, theirs = run.info, other.info
    if mine.base_tensors != theirs.base_tensors:
        tensors = set(mine.base_tensors) | set(theirs.base_tensors)
        differ = sorted(t for t in tensors if mine.base_tensors.get(t) != theirs.base_tensors.get(t))
        raise InputError(
            f"{name} was trained on {theirs.base_id}, {run.folder} on {mine.base_id}: {len(differ)} of {len(tensors)} "
            f"base tensors differ (first: {differ[0]}). Train it on the same base"
        )
    if mine.task != theirs.task:
        raise InputError(
            f"{name} was trained for {theirs.task}, {run.folder} for {mine.task}; give one of the same task"
        )
    if mine.labels != theirs.labels:
        raise InputError(
            f"{name} has the labels {list(theirs.labels)}, {run.folder} has {list(mine.labels)}; "
            "train both on the same rows"
        )
