"""Texts as training read them and as a form reads them, compared token by token."""

from __future__ import annotations

import numpy as np

from finegates_export.common.tasks.arrays import Array
from finegates_export.errors import ChainError
from finegates_export.verification.inputs import Batch

QUOTED = 60
"""Characters of a text in a message."""
SHOWN = 8
"""Numbers of a row in a message."""


def check_inputs(name: str, batch: Batch, found: dict[str, Array]) -> None:
    """Refuse texts that are read otherwise than in training.

    Args:
        name: the link's.
        batch: the rows of training, and their texts.
        found: the inputs that the texts became.

    Raises:
        ChainError: an input differs; the message has the text and both rows.
    """
    for kind, wanted in batch.inputs.items():
        other = found[kind]
        for row, text in enumerate(batch.texts):
            if not np.array_equal(wanted[row], other[row]):
                raise ChainError(
                    f"{name}: {_shortened(repr(text))} is read as {kind} {_brief(other[row])}, but training read "
                    f"{_brief(wanted[row])}; nothing was written. This is a defect, please report it with the run"
                )


def _shortened(text: str) -> str:
    return text if len(text) <= QUOTED else f"{text[:QUOTED]}..."


def _brief(row: Array) -> str:
    told = " ".join(map(str, row[:SHOWN].tolist()))
    return f"{told} ... ({len(row)})" if len(row) > SHOWN else told
