"""What options and files alone show, checked before torch is imported: a mistake is told at once."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from finegates_export.common.tasks import task_of
from finegates_export.errors import FineGatesError, InputError
from finegates_export.families import family_of
from finegates_export.sources.base import BaseModel
from finegates_export.sources.places import check_base_place
from finegates_export.sources.run_folder import read_info
from finegates_trainer.data.heads import check_heads
from finegates_trainer.data.rows import DataSource
from finegates_trainer.options import TrainOptions
from finegates_trainer.running.run_places import check_places, is_finished, working_folder


def check_early(options: TrainOptions) -> None:
    """Refuse what needs no model to be seen: places, missing files, columns, and too long rows.

    Raises:
        InputError: base, data or adapter are missing, a column is, or a row that is read here cannot be used.
        OutputError: the run could not be written.
        RunFolderError: the teacher is missing or damaged, or another run stands in the place of the one to resume.
    """
    out = Path(options.out)
    check_places(options, out, working_folder(out))
    if options.resume and is_finished(options, out, working_folder(out)):
        return
    base = check_base_place(options.base)
    if base is not None:
        _check_length(options, base)
    if options.teacher is not None:
        read_info(options.teacher)
    if options.adapter is not None and not options.adapter.is_dir():
        raise InputError(f"adapter: {options.adapter} does not exist; give a peft adapter folder or an unpruned run")
    check_heads(source_of(options))


def source_of(options: TrainOptions) -> DataSource:
    """Where a run's rows are."""
    names = ("data", "eval_data", "text_column", "pair_column", "label_column", "task")
    return DataSource(**{name: getattr(options, name) for name in names})


def allowed_length(options: TrainOptions, base_id: str, most: int) -> int:
    """Maximum tokens per row.

    The default is lowered to what the base takes; a length that was asked for is not. Packed blocks for text generation
    are full, so that the default is refused there too.

    Args:
        options: the run.
        base_id: what messages call the base.
        most: the positions of the base.

    Raises:
        InputError: more tokens were asked for than the base has positions.
    """
    task, asked = task_of(options.task), options.max_length
    lowered = task.images or (asked == TrainOptions.max_length and not task.generates)
    if asked > most and not lowered:
        raise InputError(
            f"max-length: {base_id} has {most} positions, but {asked} tokens were requested; request fewer"
        )
    return min(asked, most)


def _check_length(options: TrainOptions, base: BaseModel) -> None:
    """`allowed_length`, where config.json says it without transformers' defaults; training asks again."""
    try:
        config: Any = SimpleNamespace(**json.loads((base.folder / "config.json").read_text(encoding="utf-8")))
        most = family_of(config.model_type).max_length(config)
    except (OSError, ValueError, TypeError, AttributeError, FineGatesError):
        return
    allowed_length(options, base.id, most)
