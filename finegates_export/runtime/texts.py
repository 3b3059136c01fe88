"""What counts as a text, and the errors for what does not."""

from __future__ import annotations

import numpy as np

from finegates_export.common.tasks import Task
from finegates_export.errors import InputError

Text = str | tuple[str, str] | list[str]
"""A text, a pair of texts, or (token classification) a text as a list of words."""
PAIR = 2
QUOTED = 60
"""Maximum characters of a wrong input in a message."""


def read_text(item: object, number: int, task: Task) -> Text:
    """One input in the form the tokenizer takes.

    Raises:
        InputError: not what the task reads; the message names the input.
    """
    if not task.needs_pair and isinstance(item, str):
        return encodable(item, number)
    parts: list[object] = [None]
    if isinstance(item, (tuple, list)) or (isinstance(item, np.ndarray) and item.ndim > 0):
        parts = list(item)
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) != len(parts) or (not task.reads_words and len(parts) != PAIR):
        found = f"{type(item).__name__} {shortened(repr(item))}"
        raise InputError(f"input {number}: {task.takes}, got {found}")
    read = [encodable(part, number) for part in texts]
    return read if task.reads_words else (read[0], read[1])


def encodable(text: str, number: int) -> str:
    """Check that a text is valid Unicode.

    Args:
        text: the input.
        number: the input's number.

    Raises:
        InputError: it contains half a surrogate pair.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        told = f"input {number} is not valid Unicode: half a surrogate pair at character {error.start}"
        raise InputError(f"{told}; decode it with errors='replace'") from error
    return str(text)


def shortened(text: str) -> str:
    """A wrong input for a message, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= QUOTED else f"{line[:QUOTED]}..."


def check_no_table(inputs: object, verb: str) -> None:
    """Refuse a data frame, which would be read as its column names.

    Args:
        inputs: the argument.
        verb: the method's name.

    Raises:
        InputError: it is a data frame.
    """
    if hasattr(inputs, "columns"):
        raise InputError(f"{verb} takes a list, got {type(inputs).__name__}; pass one of its columns: table['text']")
