"""Texts that a run keeps with what its training made of them: what the delivered bundle must make of them too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finegates_export.common.files import write_json
from finegates_export.errors import RunFolderError

if TYPE_CHECKING:
    from finegates_export.common.tasks import Task

TEXTS_FILE = "texts.json"
QUOTED = 60
"""Characters of an input in a message."""


@dataclass(frozen=True)
class SampleText:
    """One input of the task, and the row that training reads for it."""

    given: Any
    """A text, a pair of texts, a list of words, or the messages of a chat."""
    ids: tuple[int, ...]
    """Token ids, without padding."""
    segments: tuple[int, ...] = ()
    """Segment of each token; empty if the model reads none."""

    @property
    def told(self) -> str:
        """The input in a message, shortened."""
        text = repr(self.given)
        return text if len(text) <= QUOTED else f"{text[:QUOTED]}..."


def as_input(given: Any, task: Task) -> Any:
    """A kept input as `predict` takes it: JSON has no tuples.

    Args:
        given: of a `SampleText`.
        task: its task.
    """
    return tuple(given) if isinstance(given, list) and not task.reads_words and not task.generates else given


def write_texts(texts: Sequence[SampleText], folder: Path) -> None:
    """Write a run's sample texts; none are no file."""
    if texts:
        rows = [{"given": one.given, "ids": list(one.ids), "segments": list(one.segments)} for one in texts]
        write_json(folder / TEXTS_FILE, rows)


def read_texts(folder: Path) -> tuple[SampleText, ...]:
    """A run's sample texts; empty if it kept none.

    Raises:
        RunFolderError: the file is damaged.
    """
    path = folder / TEXTS_FILE
    if not path.is_file():
        return ()
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        for row in rows:
            if not (_whole(row["ids"]) and _whole(row["segments"]) and len(row["segments"]) in (0, len(row["ids"]))):
                raise ValueError("a row has no ids, or segments of another length")
        return tuple(SampleText(row["given"], tuple(row["ids"]), tuple(row["segments"])) for row in rows)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunFolderError(f"{path} is damaged ({error}); copy the run folder whole or train again") from error


def _whole(values: Any) -> bool:
    return isinstance(values, list) and all(type(one) is int and one >= 0 for one in values)
