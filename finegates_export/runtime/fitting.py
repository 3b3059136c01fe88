"""Whether the parts of a bundle belong together: labels and task with the graph's inputs and outputs.

Shapes: B rows, S tokens, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from finegates_export.common.json_files import read_object
from finegates_export.common.tasks import LOGITS, PIXELS, SENTENCE, Task
from finegates_export.common.tasks.arrays import Outputs
from finegates_export.common.text_inputs import TextInputs
from finegates_export.errors import InputError
from finegates_export.runtime.bundle_fields import is_whole
from finegates_export.runtime.reading import IDS, MASK, SEGMENTS, Row
from finegates_export.runtime.session import Session

TEXT_INPUTS = (IDS, MASK, SEGMENTS)
POSITIONS = ("max_position_embeddings", "n_positions")


def check_fit(graph: Path, session: Session, task: Task, labels: Sequence[str]) -> None:
    """Fail unless a graph reads and returns what its task and labels need.

    Args:
        graph: the file, for messages.
        session: of it.
        task: what it is said to be for; not text generation.
        labels: its label names.

    Raises:
        InputError: it does not.
    """
    inputs = {value.name: value.shape for value in session.get_inputs()}
    known = (PIXELS,) if task.images else TEXT_INPUTS
    strange = [name for name in inputs if name not in known]
    needed = PIXELS if task.images else IDS
    if strange or needed not in inputs:
        raise _misfit(graph, f"reads {', '.join(inputs) or 'nothing'}, but {task.name} needs {', '.join(known)}")
    axes = 4 if task.images else 2
    wrong = [name for name, shape in inputs.items() if len(shape) != axes]
    if wrong:
        raise _misfit(graph, f"reads {wrong[0]} of {len(inputs[wrong[0]])} axes, not {axes}")
    outputs = {value.name: value.shape for value in session.get_outputs()}
    pooled = task.pools and SENTENCE in outputs
    lacking = [name for name in task.outputs if name not in outputs and not pooled]
    if lacking:
        raise _misfit(graph, f"returns {', '.join(outputs)}, but {task.name} needs {', '.join(lacking)}")
    if LOGITS in task.outputs:
        _check_width(graph, outputs[LOGITS], task, labels)


def _check_width(graph: Path, shape: Sequence[object], task: Task, labels: Sequence[str]) -> None:
    """Fail unless there is a logit for every label, or one for a task without labels."""
    axes = 3 if LOGITS in task.per_token else 2
    if len(shape) != axes:
        raise _misfit(graph, f"returns {LOGITS} of {len(shape)} axes, but {task.name} needs {axes}")
    wanted = len(labels) if task.named_labels else 1
    if not wanted or (isinstance(shape[-1], int) and shape[-1] != wanted):
        raise _misfit(graph, f"has {shape[-1]} outputs, but {task.name} with {len(labels)} labels needs {wanted}")


def check_length(folder: Path, how: TextInputs) -> None:
    """Fail if texts may be longer than the model has positions, as its `config.json` says.

    Args:
        folder: the bundle.
        how: how texts are read.

    Raises:
        InputError: they may, or that file is damaged.
    """
    file = folder / "config.json"
    config = read_object(file, InputError, "export again") if file.is_file() else {}
    counts = [config[name] for name in POSITIONS if is_whole(config.get(name)) and config[name] > 0]
    if counts and how.max_length > counts[0]:
        raise InputError(
            f"{folder / 'bundle.json'} is damaged (max_length: {how.max_length}, but {file.name} has {counts[0]} "
            "positions); export again"
        )


def check_answers(outputs: Outputs, rows: Sequence[Row], task: Task, labels: Sequence[str]) -> None:
    """Fail if a graph's answer is no answer: NaN or infinite, or of another width than there are labels.

    Args:
        outputs: a call's outputs.
        rows: what it read.
        task: the task.
        labels: label names in the order of the logits.

    Raises:
        InputError: the message names the first such input.
    """
    if task.named_labels and LOGITS in outputs and outputs[LOGITS].shape[-1] != len(labels):
        raise InputError(
            f"the graph has {outputs[LOGITS].shape[-1]} outputs, but there are {len(labels)} labels; export again"
        )
    for name, values in outputs.items():
        if len(values) != len(rows):
            raise InputError(f"the graph answers {len(values)} of {len(rows)} inputs ({name}); export again")
        if np.isfinite(values).all():
            continue
        for number, row in enumerate(rows):
            own = values[number, : row.length] if name in task.per_token and row.length else values[number]
            if not np.isfinite(own).all():
                raise InputError(
                    f"input {row.owner}: the model answers with {name} that are no numbers (NaN or infinite); its "
                    "weights are damaged or this input is beyond its range: export again, or leave the input out"
                )


def _misfit(graph: Path, told: str) -> InputError:
    return InputError(f"{graph} {told}: they do not belong together; export again")
