"""JSON from strangers: damaged, endless or nested without end, it is one error with the remedy."""

from __future__ import annotations

import json
from pathlib import Path

from finegates_export.common.files import JsonObject
from finegates_export.errors import FineGatesError

MOST_BYTES = 64 << 20
"""Of a file that describes something; the largest tokenizers' files take 35 MB."""


def read_object(path: Path, error: type[FineGatesError], remedy: str, *, most_bytes: int = MOST_BYTES) -> JsonObject:
    """The JSON object in a file.

    Args:
        path: the file.
        error: what to raise if it cannot be read.
        remedy: what the user can do about it.
        most_bytes: the largest file that is read.

    Raises:
        FineGatesError: as `error`: no file, too large, not JSON, nested too deep, or no object.
    """
    try:
        size = path.stat().st_size
        if size > most_bytes:
            raise error(f"{path} is damaged: it has {size:,} bytes, at most {most_bytes:,} are read; {remedy}")
        content = path.read_bytes()
    except OSError as cause:
        raise error(f"{path} is damaged ({cause}); {remedy}") from cause
    return parse_object(content, path, error, remedy)


def parse_object(content: bytes, path: Path, error: type[FineGatesError], remedy: str) -> JsonObject:
    """The JSON object that some bytes hold.

    Args:
        content: the bytes.
        path: the file that they come from, for messages.
        error: what to raise if they hold none.
        remedy: what the user can do about it.

    Raises:
        FineGatesError: as `error`: not JSON, nested too deep, or no object.
    """
    try:
        values = json.loads(content.decode("utf-8"))
    except RecursionError as cause:
        raise error(f"{path} is damaged: its brackets are nested too deep; {remedy}") from cause
    except ValueError as cause:
        raise error(f"{path} is damaged ({cause}); {remedy}") from cause
    if not isinstance(values, dict):
        raise error(f"{path} is damaged: it holds a {type(values).__name__}, not an object; {remedy}")
    return values
