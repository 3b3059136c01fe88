"""The unpruned model for a run: whether two runs can be compared."""

from __future__ import annotations

from pathlib import Path

from finegates_export.errors import InputError
from finegates_export.sources.run_folder import Run, read_run


def read_baseline(run: Run, folder: Path) -> Run:
    """A run with layout none, on the same base and for the same labels: the unpruned model.

    Args:
        run: the run to compare with.
        folder: its folder.

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
    check_same_model(run, baseline, f"baseline {folder}")
    return baseline


def check_same_model(run: Run, other: Run, name: str) -> None:
    """Refuse two runs of different models.

    Args:
        run: one of them.
        other: the other.
        name: the other's name in the message.

    Raises:
        InputError: another base, task or other labels.
    """
    check_same_base(run, other, name)
    check_same_answers(run, other, name)


def check_same_base(run: Run, other: Run, name: str) -> None:
    """Refuse two runs on different bases; the arguments are those of `check_same_model`.

    Raises:
        InputError: another base.
    """
    mine, theirs = run.info, other.info
    if mine.base_tensors != theirs.base_tensors:
        tensors = set(mine.base_tensors) | set(theirs.base_tensors)
        differ = sorted(t for t in tensors if mine.base_tensors.get(t) != theirs.base_tensors.get(t))
        raise InputError(
            f"{name} was trained on {theirs.base_id}, {run.folder} on {mine.base_id}: {len(differ)} of {len(tensors)} "
            f"base tensors differ (first: {differ[0]}). Train it on the same base"
        )


def check_same_answers(run: Run, other: Run, name: str) -> None:
    """Refuse two runs trained for different answers; the arguments are those of `check_same_model`.

    Raises:
        InputError: another task or other labels.
    """
    mine, theirs = run.info, other.info
    if mine.task != theirs.task:
        raise InputError(
            f"{name} was trained for {theirs.task}, {run.folder} for {mine.task}; give one of the same task"
        )
    if mine.labels != theirs.labels:
        raise InputError(
            f"{name} has the labels {list(theirs.labels)}, {run.folder} has {list(mine.labels)}; "
            "train both on the same rows"
        )
