"""Both splits of a data source, read for its task."""

from __future__ import annotations

from finegates_export.common.tasks import task_of
from finegates_export.errors import InputError
from finegates_trainer.data.columns import rows_of
from finegates_trainer.data.images import read_image_folders
from finegates_trainer.data.rows import DataSource, LabelledData, Rows
from finegates_trainer.data.tables import read_tables


def read_data(source: DataSource) -> LabelledData:
    """Read both splits; without evaluation rows a tenth is held out.

    With `eval_data`, a dev file next to the training rows is not read: it may be unlabelled.

    Raises:
        InputError: nothing found, a column is missing, or no rows.
        MissingExtraError: a `datasets` name without the `train` extra.
    """
    train, evaluation = _splits(source.data, source, held_out=not source.eval_data)
    if source.eval_data:
        only, held_out = _splits(source.eval_data, source)
        evaluation = held_out if held_out is not None else only
    if evaluation is None:
        task = task_of(source.task)
        train, evaluation = train.held_out(by_pair=task.splits_by_pair, named_labels=task.named_labels)
        if not len(evaluation):
            raise InputError(
                f"{source.data}: of {len(train)} rows none could be held out for evaluation: they are too few, or each "
                "has a label that no other has; give more rows, or --eval-data"
            )
    for name, rows in (("training", train), ("evaluation", evaluation)):
        if not len(rows):
            raise InputError(f"{source.data}: no {name} rows; give more data, or --eval-data")
    return LabelledData(train, evaluation)


def _splits(place: str, source: DataSource, *, held_out: bool = True) -> tuple[Rows, Rows | None]:
    if task_of(source.task).images:
        return read_image_folders(place, held_out=held_out)
    train, evaluation = read_tables(place, held_out=held_out)
    return rows_of(train, source, place), None if evaluation is None else rows_of(evaluation, source, place)
