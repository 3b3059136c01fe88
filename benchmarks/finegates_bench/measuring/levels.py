"""Which models are measured: the run's levels, the unpruned model, what-ifs. Each is a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finegates_bench.measuring.results import Kind
from finegates_export.sources.baseline import check_same_answers, check_same_model, read_baseline
from finegates_export.sources.run_folder import Run, read_run


@dataclass(frozen=True)
class Candidate:
    """A run that is about to be exported and measured."""

    id: str
    kind: Kind
    trained: bool
    run: Run
    asked: float | None = None
    """The removed share that a what-if was asked for."""
    name: str = ""
    """Of another run, what its base is called."""


def own_levels(run: Run) -> list[Candidate]:
    """The run's settled levels, ascending; the run itself where it walked none.

    Raises:
        InputError: a level was not trained on the run's base, or for its labels.
        RunFolderError: a level is damaged.
    """
    found = []
    for folder in run.levels():
        level = run if folder == run.folder else read_run(folder)
        check_same_model(run, level, f"level {folder}")
        share = folder.name if level is not run else f"{level.info.removed:.2f}"
        found.append(Candidate(f"level-{share}", "level", True, level))
    return found


def unpruned_of(run: Run, folder: Path) -> Candidate:
    """The unpruned model that a run is compared with; see `read_baseline`."""
    return Candidate("unpruned", "unpruned", True, read_baseline(run, folder))


def other_runs(run: Run, folders: Sequence[Path]) -> list[Candidate]:
    """Runs for the same labels, on whatever base, each as it ended.

    Raises:
        InputError: one was trained for another task or other labels.
        RunFolderError: one is missing or damaged.
    """
    others = [read_run(folder) for folder in folders]
    for other in others:
        check_same_answers(run, other, f"run {other.folder}")
    bases = [one.info.base_name for one in (run, *others)]
    named = [
        base if bases.count(base) == 1 else f"{base} ({folder})"
        for base, folder in zip(bases[1:], _short_names(others), strict=True)
    ]
    return [
        Candidate(f"other-{number}", "other", True, other, name=name)
        for number, (name, other) in enumerate(zip(named, others, strict=True), 1)
    ]


def _short_names(runs: Sequence[Run]) -> list[str]:
    """What the runs' folders are called, with the folder above where two are called the same."""
    folders = [run.folder.resolve() for run in runs]
    names = [folder.name for folder in folders]
    return [
        name if names.count(name) == 1 else f"{folder.parent.name}/{name}"
        for name, folder in zip(names, folders, strict=True)
    ]


def other_notes(run: Run, others: Sequence[Candidate]) -> list[str]:
    """What other runs are, and how they differ from the run."""
    notes = []
    for candidate in others:
        info = candidate.run.info
        notes.append(
            f"{candidate.name} is another run: {info.base_name} ({info.family}), trained for {info.steps} "
            f"steps on {info.data.get('train_rows')} rows. Its ratio is over the unpruned model too."
            + ("" if _same_rows(run, candidate.run) else " It was trained beside other evaluation rows than the run.")
        )
    return notes


def _same_rows(run: Run, other: Run) -> bool:
    return run.info.data.get("eval_sha256") == other.info.data.get("eval_sha256")


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
