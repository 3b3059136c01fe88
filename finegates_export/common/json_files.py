"""JSON files of strangers: read whole, within limits, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

from finegates_export.common.files import JsonObject
from finegates_export.errors import InputError

MOST_BYTES = 64 << 20
"""A larger file is none that an export or transformers writes."""


def read_json_object(path: Path, remedy: str = "export again") -> JsonObject:
    """A file that holds one JSON object.

    Args:
        path: the file.
        remedy: what to do about a damaged one.

    Raises:
        InputError: it is too large, not JSON, nested too deeply, or no object.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise InputError(f"{path} is damaged ({size:,} bytes, more than {MOST_BYTES:,}); {remedy}")
    return parse_json_object(path.read_bytes(), path, remedy)


def parse_json_object(content: bytes, path: Path, remedy: str = "export again") -> JsonObject:
    """The JSON object that some bytes hold.

    Args:
        content: the bytes.
        path: the file that messages name.
        remedy: what to do about damaged ones.

    Raises:
        InputError: not JSON, nested too deeply, or no object.
    """
    try:
        value = json.loads(content.decode("utf-8"))
    except json.JSONDecodeError as error:
        told = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise InputError(f"{path} is damaged ({told}); {remedy}") from error
    except RecursionError as error:
        raise InputError(f"{path} is damaged (brackets are nested too deeply); {remedy}") from error
    except ValueError as error:  # not UTF-8, or a number of thousands of digits
        raise InputError(f"{path} is damaged ({error}); {remedy}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} is damaged (it holds {type(value).__name__}, not an object); {remedy}")
    return value
