"""The files of a run folder that its own record lists: they alone are read or copied, each held to its hash.

A run folder may come from anybody. What else lies in it, a link to a file of the reader's above all, plays no part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from finegates_export.common.files import sha256_file
from finegates_export.errors import RunFolderError

SHA256 = re.compile(r"[0-9a-f]{64}")


def check_inside(record: Path, name: str) -> None:
    """Refuse a path that leads out of the folder of its record.

    Args:
        record: the record, for messages.
        name: the path, as the record has it.

    Raises:
        RunFolderError: it is absolute, empty, or climbs.
    """
    path = PurePosixPath(name)
    if (
        path.is_absolute()
        or not path.parts
        or ".." in path.parts
        or "\\" in name
        or "\0" in name
        or ":" in path.parts[0]
    ):
        raise RunFolderError(f"{record} is damaged: it lists {name!r:.120}, which is no path inside its folder")


def check_listed(folder: Path, record: Path, files: Mapping[str, str]) -> None:
    """Hold every listed file to its hash.

    Args:
        folder: the run folder.
        record: its record, for messages.
        files: SHA-256 by path in the folder.

    Raises:
        RunFolderError: a file is missing, a link, elsewhere, or another than the one that was written.
    """
    for name, digest in files.items():
        check_inside(record, name)
        if not SHA256.fullmatch(digest):
            raise RunFolderError(f"{record} is damaged: files: {name!r:.120} has no sha256, but {digest!r:.80}")
        file = folder / name
        if any(part.is_symlink() for part in _steps(folder, name)):
            raise RunFolderError(f"{file} is a link; copy the run folder with what its links lead to (cp -rL)")
        if not file.is_file():
            raise RunFolderError(f"{folder} is incomplete: {name} is missing; copy the run folder whole or train again")
        if sha256_file(file) != digest:
            raise RunFolderError(f"{file} is truncated or was changed after training (its sha256 differs)")


def check_nothing_else(folder: Path, inside: str, files: Mapping[str, str]) -> None:
    """Refuse a folder of a run that holds more than is listed, because all of it is read.

    Args:
        folder: the run folder.
        inside: the folder's path in it.
        files: what is listed, by path.

    Raises:
        RunFolderError: a file is there that the record does not list.
    """
    place = folder / inside
    for path in sorted(place.rglob("*")) if place.is_dir() else ():
        name = path.relative_to(folder).as_posix()
        if (path.is_symlink() or not path.is_dir()) and name not in files:
            raise RunFolderError(f"{path} is not listed in run.json, but would be read; remove it")


def _steps(folder: Path, name: str) -> list[Path]:
    """Every path on the way from the folder to one of its files."""
    parts = PurePosixPath(name).parts
    return [folder.joinpath(*parts[: number + 1]) for number in range(len(parts))]
