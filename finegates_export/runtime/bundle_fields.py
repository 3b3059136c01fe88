"""The fields of `bundle.json`: which there must be, and of which type. Whoever wrote the file may be a stranger."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from finegates_export.common.files import JsonObject
from finegates_export.common.tasks.pooling import POOLINGS
from finegates_export.errors import InputError

SCHEMA_VERSION = 1
"""The version of `bundle.json` that this code writes and reads."""
FIELDS = ("files", "graphs", "labels", "max_length", "target", "task")
"""Fields that every `bundle.json` must have."""
DIGEST = re.compile(r"[0-9a-f]{64}")
LONGEST_QUOTE = 80

Kind = tuple[Callable[[Any], bool], str]
"""A test of a value, and what it must be."""


def check_fields(info: JsonObject, path: Path) -> None:
    """Fail unless every field that is read is of its type.

    Args:
        info: the content of `bundle.json`.
        path: that file, for messages.

    Raises:
        InputError: a field is missing or of another type, or a file's name leads out of the bundle.
    """
    lacking = [field for field in FIELDS if field not in info]
    if lacking:
        raise InputError(f"{path} is damaged (it lacks {', '.join(lacking)}); export again")
    for field, (fits, told) in KINDS.items():
        if field in info and not fits(info[field]):
            found = repr(info[field])
            shown = found if len(found) <= LONGEST_QUOTE else f"{found[:LONGEST_QUOTE]}..."
            raise InputError(f"{path} is damaged ({field}: must be {told}, got {shown}); export again")
    for name in (*info["files"], *info["graphs"]):
        if not is_inside(name):
            raise InputError(f"{path} is damaged (files: {name!r} is no path in the bundle); export again")
    unlisted = [name for name in info["graphs"] if name not in info["files"]]
    if unlisted:
        raise InputError(f"{path} is damaged (files: {unlisted[0]!r} of graphs is not listed); export again")


def is_inside(name: str) -> bool:
    """Whether a name is a plain relative path: no step up, no root, nothing that a system could read another way."""
    strange = "\\" in name or "\0" in name or ":" in name or name in ("", ".")
    return (
        not strange
        and not name.startswith("/")
        and PurePosixPath(name).as_posix() == name
        and ".." not in name.split("/")
    )


def is_whole(value: object) -> bool:
    """Whether a JSON value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _labels(value: object) -> bool:
    return isinstance(value, list) and _texts(value) and len(set(value)) == len(value)


def _digests(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) and DIGEST.fullmatch(one) for one in value.values())


def _positive(value: object) -> bool:
    return value is None or (isinstance(value, int) and is_whole(value) and value > 0)


KINDS: dict[str, Kind] = {
    "schema_version": (lambda value: is_whole(value) and value <= SCHEMA_VERSION, f"a number up to {SCHEMA_VERSION}"),
    "files": (_digests, "an object of sha256 digests by file"),
    "graphs": (lambda value: _texts(value) and bool(value), "a list of files"),
    "labels": (_labels, "a list of different texts"),
    "max_length": (lambda value: is_whole(value) and value >= 0, "a whole number"),
    "target": (lambda value: isinstance(value, str), "a text"),
    "task": (lambda value: isinstance(value, str), "a text"),
    "vocabulary": (_positive, "a positive number or null"),
    "positions": (_positive, "a positive number or null"),
    "pooling": (lambda value: value is None or value in POOLINGS, f"{', '.join(POOLINGS)} or null"),
    "normalize": (lambda value: value is None or isinstance(value, bool), "true, false or null"),
    "text": (lambda value: value is None or isinstance(value, dict), "an object or null"),
    "versions": (
        lambda value: isinstance(value, dict) and all(isinstance(one, str) for one in value.values()),
        "an object of versions by package",
    ),
    "check": (lambda value: value is None or isinstance(value, dict), "an object or null"),
}
"""What each field must be; others are not read."""
