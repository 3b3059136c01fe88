"""Where results go: links are followed to the end, and nothing that the work reads lies where it writes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from finegates_export.errors import OutputError


def followed(path: Path) -> Path:
    """Where a path leads in the end: links are followed, the last one too, and what is there need not exist.

    Raises:
        OutputError: its links lead in a circle.
    """
    real = Path(os.path.realpath(path))
    if real.is_symlink():
        raise OutputError(f"{path} is a link that leads in a circle; remove it, or choose another --out")
    return real


def check_reads(path: Path, reads: Iterable[str | Path | None], places: Iterable[Path]) -> None:
    """Refuse work that would remove what it reads: an input at one of the places, below it, or a link to there.

    Args:
        path: the destination, for messages.
        reads: inputs of the work; None and values that are not paths are ignored.
        places: what the work replaces or removes.

    Raises:
        OutputError: an input would be lost.
    """
    standing = [Path(os.path.realpath(place)) for place in places if place.exists()]
    for source in (Path(one).expanduser() for one in reads if one):
        for found in _files_behind(source) if standing else ():
            for place in standing:
                if found.is_relative_to(place):
                    itself = place == followed(path)
                    said = "is or contains" if itself else f"cannot be written without {place}, which is or contains"
                    raise OutputError(f"{path} {said} {source}, which is an input; choose another --out")


def _files_behind(source: Path) -> Iterator[Path]:
    """Where an input really lies: itself, its own name if it is a link, and where links inside it lead."""
    try:
        if not (source.exists() or source.is_symlink()):
            return
    except (OSError, ValueError):  # a name that no file can have, such as a text
        return
    yield Path(os.path.realpath(source.parent)) / source.name
    yield Path(os.path.realpath(source))
    if source.is_dir():
        yield from (Path(os.path.realpath(link)) for link in _links_in(source))


def _links_in(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                yield entry.path
            elif entry.is_dir():
                yield from _links_in(Path(entry.path))
