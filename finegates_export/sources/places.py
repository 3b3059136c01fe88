"""What a command reads, checked by its files before torch is imported: a missing folder is told at once."""

from __future__ import annotations

from pathlib import Path

from finegates_export.errors import InputError
from finegates_export.sources.base import BaseModel, local_base
from finegates_export.sources.run_folder import RunInfo, read_info


def check_base_place(place: str) -> BaseModel | None:
    """A base's folder with the files that it needs; None for a hub id, which takes the network to check.

    Raises:
        InputError: the folder, its config.json or its weights are missing.
    """
    base = local_base(place)
    if base is not None:
        base.weight_files()
    return base


def check_run_place(folder: Path, base: str | None = None) -> RunInfo:
    """The record of a run whose base is there.

    Args:
        folder: the run.
        base: where the base is now, if it has moved since training.

    Raises:
        InputError: the base is not where the run or `base` says.
        RunFolderError: the run folder is missing or damaged.
    """
    info = read_info(folder)
    try:
        check_base_place(base or info.base_id)
    except InputError as error:
        raise InputError(f"{error}. The run was trained on {info.base_id}; pass --base to say where it is") from error
    return info
