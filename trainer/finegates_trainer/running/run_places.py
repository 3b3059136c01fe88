"""Where a run goes, where it is kept while it trains, and whether something there is still wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finegates_export.common.files import check_destination
from finegates_export.errors import OutputError, RunFolderError
from finegates_export.sources.run_folder import LEVELS_FOLDER, RUN_JSON, Run, read_run
from finegates_trainer.options import TrainOptions
from finegates_trainer.running.checkpoint import CHECKPOINT
from finegates_trainer.running.loop import CHECKPOINT_KEYS

OWN_NAMES = {CHECKPOINT, LEVELS_FOLDER}
"""What lies in a working folder."""


def working_folder(out: Path) -> Path:
    """Where checkpoints and finished levels lie while the run trains."""
    return out.absolute().parent / f"{out.name}.training"


def check_places(options: TrainOptions, out: Path, work: Path) -> None:
    """Fail before any work if the run could not be put at `out`, or if its working folder holds what is still wanted.

    Raises:
        OutputError: see `check_destination`; or an interrupted run lies beside `out`.
    """
    reads = (options.base, options.data, options.eval_data, options.teacher, options.adapter)
    check_destination(out, overwrite=options.overwrite or options.resume, marks=(RUN_JSON,), reads=reads)
    if options.resume or not work.exists():
        return
    found = {path.name for path in work.iterdir() if not path.name.startswith(".")}  # a killed write leaves a dot's
    if found - OWN_NAMES:
        raise OutputError(f"{work} is needed for checkpoints but holds other files; move them elsewhere")
    if found and not options.overwrite:
        raise OutputError(
            f"{work} holds an interrupted run; pass --resume to continue it, or --overwrite to start again"
        )


def finished_run(options: TrainOptions, out: Path, work: Path) -> Run | None:
    """The run that stands at `out`, where it is the one that was asked for; None where there is still work to do.

    Raises:
        RunFolderError: another one stands there, and `overwrite` is off.
    """
    if not (out / RUN_JSON).is_file() or (options.overwrite and (work / CHECKPOINT).is_file()):
        return None
    run = read_run(out)
    asked, stands = options.to_json(), run.info.options
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
    return None if other else run


def _same_file(one: Any, other: Any) -> bool:
    """Whether two settings are one path, written in two ways."""
    return isinstance(one, str) and isinstance(other, str) and Path(one).resolve() == Path(other).resolve()
