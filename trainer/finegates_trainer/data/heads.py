"""The beginnings of data files, read before a model is: missing files and columns are told at once."""

from __future__ import annotations

from pathlib import Path

from finegates_export.common.tasks import task_of
from finegates_trainer.data.columns import rows_of
from finegates_trainer.data.images import read_image_folders
from finegates_trainer.data.rows import DataSource
from finegates_trainer.data.tables import local_files, read_head


def check_heads(source: DataSource) -> None:
    """Refuse files that are missing, lack a column, or begin with a row that cannot be used.

    Names of data sets are not looked up.

    Raises:
        InputError: see `read_data`.
        MissingExtraError: the `train` extra is not installed.
    """
    places = {source.data: not source.eval_data, **({source.eval_data: True} if source.eval_data else {})}
    for place, held_out in places.items():
        if task_of(source.task).images:
            read_image_folders(place, held_out=held_out, headers=False)
            continue
        for path in local_files(place, held_out=held_out):
            table = read_head(Path(path))
            if table is not None:
                rows_of(table, source, place)
