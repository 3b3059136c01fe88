"""The rows that all peers see: tokenized once by the run's own tokenizer, padded, in files that numpy alone reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from finegates_export.common.files import staged_folder
from finegates_export.errors import InputError, UnsupportedError
from finegates_export.sources.run_folder import Run

if TYPE_CHECKING:
    from finegates_export.sources.base import BaseModel
    from finegates_trainer.data.examples import Examples

TASK, FAMILY = "classification", "bert"
COLUMNS = ("text_column", "pair_column", "label_column")


def check_runs(unpruned: Run, level: Run) -> None:
    """Refuse runs that cannot be compared, or that the peers' scripts do not know.

    Raises:
        InputError: the runs have different bases or labels, or the unpruned one has gates.
        UnsupportedError: another family or task.
    """
    info, pruned = unpruned.info, level.info
    if (info.family, info.task) != (FAMILY, TASK):
        raise UnsupportedError(
            f"{unpruned.folder} is a {info.family} for {info.task}; the peers know {FAMILY} for {TASK}"
        )
    if info.layout != "none":
        raise InputError(f"{unpruned.folder} has the layout {info.layout}; the unpruned run is one of the layout none")
    if (info.base_tensors, info.labels) != (pruned.base_tensors, pruned.labels):
        raise InputError(f"{level.folder} has another base or other labels than {unpruned.folder}")


def write_rows(run: Run, base: BaseModel, data: str, folder: Path) -> Examples:
    """Write train.npz and eval.npz; the same bytes for the same rows.

    Args:
        run: says which columns hold text and label, and carries the tokenizer.
        base: the run's base, for the names of its inputs.
        data: a folder with train and dev files.
        folder: where the two files go.

    Returns:
        The evaluation rows, to compute metrics on.

    Raises:
        InputError: the rows cannot be read, or have labels that the run does not know.
    """
    from finegates_bench.measuring.quality import evaluation_rows
    from finegates_export.sources.base import BaseModel
    from finegates_trainer.data import DataSource, encode_labels, read_data
    from finegates_trainer.data.tokenizing import make_examples

    info, names = run.info, base.family().input_names(base.config())
    evaluation = evaluation_rows(run, names, data).examples
    if evaluation is None:
        raise InputError(f"{data} holds no evaluation rows")
    rows = read_data(DataSource(task=TASK, data=data, **{name: info.data.get(name) for name in COLUMNS})).train
    labels = encode_labels(rows, TASK, info.labels, "training")
    tokenizer = BaseModel(base.id, None, run.folder).preprocessor(TASK)
    train = make_examples(TASK, tokenizer, rows, labels, info.max_length, names)
    with staged_folder(folder, overwrite=True) as stage:
        for name, examples in (("train", train), ("eval", evaluation)):
            inputs, truth = examples.collate(range(len(examples)))
            np.savez(stage / f"{name}.npz", labels=truth.numpy(), **{key: x.numpy() for key, x in inputs.items()})
    return evaluation
