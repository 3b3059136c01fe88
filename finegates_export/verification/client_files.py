"""Texts as other programs read them: with transformers, by nothing but the bundle's tokenizer files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finegates_export.common.tasks import Task
from finegates_export.verification.inputs import Batch
from finegates_export.verification.reading import check_inputs

if TYPE_CHECKING:
    from finegates_export.common.tasks.arrays import Array

CLIENTS = "texts, as other programs read the bundle's tokenizer files"


def check_clients(folder: Path, batches: Sequence[Batch], task: Task) -> None:
    """Refuse tokenizer files that make clients truncate, pad or number segments otherwise than training did.

    Args:
        folder: the bundle, or what will be one.
        batches: the chain's; those with texts count. Chats are left to the other check: clients render them themselves.
        task: the graph's task.

    Raises:
        ChainError: an input differs; the message has the text and both rows.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    for batch in batches:
        if batch.texts and not (task.generates and any(not isinstance(text, str) for text in batch.texts)):
            found = _read(tokenizer, batch.texts, task)
            known = {name: array for name, array in batch.inputs.items() if name in found}
            check_inputs(CLIENTS, replace(batch, inputs=known), found)


def _read(tokenizer: Any, texts: Sequence[Any], task: Task) -> dict[str, Array]:
    """A batch of texts as a client that truncates and pads reads it."""
    truncation: str | bool = "only_second" if task.reads_windows else not task.generates
    words = task.reads_words and not isinstance(texts[0], str)
    rows = [
        tokenizer(*text, truncation=truncation)
        if isinstance(text, tuple)
        else tokenizer(text, truncation=truncation, is_split_into_words=words)
        for text in texts
    ]
    columns = {name: [list(row[name]) for row in rows] for name in rows[0]}
    if len(rows) > 1 and tokenizer.pad_token is not None:
        columns = dict(tokenizer.pad(columns))
    return {name: np.asarray(column, np.int64) for name, column in columns.items()}
