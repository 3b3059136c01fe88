"""A run's destination and working folder, and whether they hold anything to keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finegates_export.common.files import check_destination
from finegates_export.common.places import followed
from finegates_export.errors import OutputError, RunFolderError
from finegates_export.sources.run_folder import LEVELS_FOLDER, RUN_JSON, Run, places_of_run, read_info, read_run
from finegates_trainer.options import TrainOptions
from finegates_trainer.running.checkpoint import CHECKPOINT

OWN_NAMES = {CHECKPOINT, LEVELS_FOLDER}
"""Files of a working folder."""
CHECKPOINT_KEYS = ("resume", "overwrite", "save_steps", "threads", "out")
"""Options that may differ between a run and the one that resumes it."""


def working_folder(out: Path) -> Path:
    """The folder for checkpoints and finished levels during training."""
    real = followed(out)
    return real.parent / f"{real.name}.training"


def check_places(options: TrainOptions, out: Path, work: Path) -> None:
    """Fail before any work starts if the run could not be written to `out`, or its working folder is in use.

    Raises:
        OutputError: see `check_destination`; or the working folder is none of ours, or holds an interrupted run.
    """
    runs = [place for one in (options.teacher, options.adapter) if one for place in places_of_run(Path(one))]
    reads = (options.base, options.data, options.eval_data, *runs)
    marks, overwrite = (RUN_JSON,), options.overwrite or options.resume
    check_destination(out, overwrite=overwrite, marks=marks, reads=reads, removes=(work,))
    if work.is_symlink() or (work.exists() and not work.is_dir()):
        raise OutputError(f"{work} is needed as a folder for checkpoints; move it elsewhere, or choose another --out")
    if not work.exists():
        return
    # A killed write leaves files whose names begin with a dot.
    found = {path.name: path for path in work.iterdir() if not path.name.startswith(".")}
    if found.keys() - OWN_NAMES:
        raise OutputError(f"{work} is needed for checkpoints but holds other files; move them elsewhere")
    if any(path.is_symlink() for path in found.values()):
        raise OutputError(f"{work} is needed for checkpoints but holds links; move them elsewhere")
    if found and not (options.overwrite or options.resume):
        raise OutputError(
            f"{work} holds an interrupted run; pass --resume to continue it, or --overwrite to start again"
        )


def finished_run(options: TrainOptions, out: Path, work: Path) -> Run | None:
    """The finished run at `out`, if it has the requested options; None if there is still work to do.

    Raises:
        RunFolderError: another run is there, and `overwrite` is off; or it is damaged.
    """
    return read_run(out) if is_finished(options, out, work) else None


def is_finished(options: TrainOptions, out: Path, work: Path) -> bool:
    """Whether the run at `out` says that it has the requested options; its files are not checked.

    Raises:
        RunFolderError: another run is there, and `overwrite` is off.
    """
    if not (out / RUN_JSON).is_file() or (options.overwrite and (work / CHECKPOINT).is_file()):
        return False
    asked, stands = options.to_json(), read_info(out).options
    other = sorted(
        name
        for name in (asked.keys() & stands.keys()) - set(CHECKPOINT_KEYS)
        if asked[name] != stands[name] and not _same_file(asked[name], stands[name])
    )
    if other and not options.overwrite:
        raise RunFolderError(
            f"{out} already exists, trained with {other[0]} {stands[other[0]]!r} instead of {asked[other[0]]!r}; pass "
            "--overwrite to replace it, or choose another --out"
        )
    return not other


def _same_file(one: Any, other: Any) -> bool:
    """Whether two settings are the same path, spelled differently."""
    return isinstance(one, str) and isinstance(other, str) and Path(one).resolve() == Path(other).resolve()
