"""How files reach their final place: written next to it, hashed, fsynced, and renamed last.

A process killed at any moment leaves the old result or the new one at the destination, or nothing where nothing was.
A destination that is a link is followed: what it points to is written, and the link stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from finegates_export.common.exchange import exchange
from finegates_export.common.places import check_reads, followed
from finegates_export.errors import OutputError

JsonObject = dict[str, Any]
"""A JSON object that is read by the names of its fields."""
CHUNK = 1 << 20
READ_AND_WRITE = 0o666
"""The rights of a file before the umask takes some; a new folder shows what it takes."""


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_tree(folder: Path, *, leave_out: tuple[str, ...] = ()) -> dict[str, str]:
    """Digest of every file below a folder, by its path in the folder."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name: sha256_file(folder / name) for name in names if name not in leave_out}


def write_json(path: Path, content: object) -> None:
    """Write readable JSON: indented, a list of plain values on one line, UTF-8, with a final newline."""
    path.write_text(readable_json(content) + "\n", encoding="utf-8")


def readable_json(content: object, indent: str = "") -> str:
    """JSON with an entry of an object on each line, and lists on one line unless they hold objects."""
    inside = f"{indent}  "
    if isinstance(content, dict) and content:
        entries = [
            f"{json.dumps(str(name), ensure_ascii=False)}: {readable_json(one, inside)}"
            for name, one in content.items()
        ]
    elif isinstance(content, (list, tuple)) and any(isinstance(one, (dict, list, tuple)) for one in content):
        entries = [readable_json(one, inside) for one in content]
    else:
        return json.dumps(content, ensure_ascii=False)
    opening, closing = "{}" if isinstance(content, dict) else "[]"
    lines = f",\n{inside}".join(entries)
    return f"{opening}\n{inside}{lines}\n{indent}{closing}"


def check_destination(
    path: Path,
    *,
    overwrite: bool,
    marks: tuple[str, ...] = (),
    reads: Iterable[str | Path | None] = (),
    removes: Iterable[Path] = (),
) -> None:
    """Fail before any work starts if the result could not be written to `path`.

    An earlier result that a killed process had moved aside is put back first.

    Args:
        path: the file or folder to write.
        overwrite: replace an existing one.
        marks: for a folder, file patterns that identify an earlier result of the same command. An empty folder is
            replaced; a folder with anything else never is.
        reads: inputs of the work; None and values that are not paths are ignored.
        removes: more folders that the work removes.

    Raises:
        OutputError: it exists and may not be replaced, or its folder cannot be made or written.
    """
    real = followed(path)
    with _as_output_error(path):
        if _aside(real).exists() and not real.exists():
            with claimed(_stage(real), path):
                _put_back(real)
        _check(path, overwrite=overwrite, marks=marks)
        check_reads(path, reads, [real, _stage(real), _aside(real), *removes])


@contextlib.contextmanager
def staged_folder(path: Path, *, overwrite: bool, marks: tuple[str, ...] = ()) -> Iterator[Path]:
    """A folder next to `path` to write into; it replaces `path` as a whole if the block ends without an error.

    Raises:
        OutputError: see `check_destination`.
    """
    real = followed(path)
    stage = _stage(real)
    with _as_output_error(path), claimed(stage, path), _cleared(stage):
        _put_back(real)
        _check(path, overwrite=overwrite, marks=marks)
        stage.mkdir()
        yield stage
        for file in stage.rglob("*"):
            if file.is_file() and not file.is_symlink():
                file.chmod(stage.stat().st_mode & READ_AND_WRITE)  # safetensors writes for its user alone
            _fsync(file)
        _fsync(stage)
        _replace(real, stage)
        _fsync(real.parent)


@contextlib.contextmanager
def staged_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A file name next to `path` to write to; it is renamed to `path` if the block ends without an error.

    Processes that write the same file take turns.
    """
    real = followed(path)
    stage = _stage(real)
    with _as_output_error(path), claimed(stage, path, wait=True), _cleared(stage):
        _check(path, overwrite=overwrite)
        stage.touch()
        mode = stage.stat().st_mode
        yield stage
        stage.chmod(mode & READ_AND_WRITE)
        _fsync(stage)
        stage.replace(real)
        _fsync(real.parent)


@contextlib.contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """A folder next to `path` for intermediate files, on the same disk; always removed when the block ends."""
    scratch = scratch_of(path)
    with _as_output_error(path), claimed(scratch, path), _cleared(scratch):
        scratch.mkdir()
        yield scratch


@contextlib.contextmanager
def claimed(work: Path, path: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes away from `work` while the block runs.

    The claim is a locked file next to it, removed afterwards; the lock is released when its process ends.

    Args:
        work: the path that only one process at a time may touch.
        path: the destination, for messages.
        wait: wait for another process instead of failing.

    Raises:
        OutputError: another process holds it, or the claim cannot be written.
    """
    from filelock import FileLock, Timeout

    claim = Path(f"{work.absolute()}.lock")
    lock = FileLock(claim, timeout=-1 if wait else 0)
    with _as_output_error(path):
        claim.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            raise OutputError(
                f"{path} is being written by another process; wait for it to finish, or choose another --out"
            ) from error
    try:
        yield
    finally:
        claim.unlink(missing_ok=True)  # while locked: a waiting process finds it gone and makes a new one
        lock.release()


def _check(path: Path, *, overwrite: bool, marks: tuple[str, ...] = ()) -> None:
    """Whether something may be written to a path, whatever it is that is read; see `check_destination`."""
    if path.exists():
        _check_replaceable(path, overwrite=overwrite, marks=marks)
    real = followed(path)
    real.parent.mkdir(parents=True, exist_ok=True)
    probe = real.parent / f".{real.name}.probe-{os.getpid()}"
    probe.touch()
    probe.unlink()


def _replace(path: Path, stage: Path) -> None:
    """Put a finished folder into place; what was there is there until the new one is."""
    if path.exists() and exchange(stage, path):
        return  # what was there is now at `stage`, which is cleared
    aside = _aside(path)
    _remove(aside)
    if path.exists():
        path.rename(aside)
    try:
        stage.rename(path)
    except BaseException:
        _put_back(path)
        raise
    _remove(aside)


def _put_back(path: Path) -> None:
    """Give a name back to the result that a killed process had moved aside and not replaced; else remove the rest."""
    aside = _aside(path)
    if aside.exists() and not path.exists():
        aside.rename(path)
    _remove(aside)


def _check_replaceable(path: Path, *, overwrite: bool, marks: tuple[str, ...]) -> None:
    """See `check_destination`; for a path that exists."""
    empty = bool(marks) and path.is_dir() and not any(path.iterdir())
    if not empty and not overwrite:
        raise OutputError(f"{path} already exists; pass --overwrite to replace it, or choose another --out")
    if not marks:
        return
    if not path.is_dir():
        raise OutputError(f"{path} is a file, but this writes a folder; choose another --out")
    if os.path.ismount(path) or path.resolve() == Path.cwd():
        raise OutputError(f"{path} cannot be replaced by another folder; choose a folder inside it")
    if not empty and not any(True for mark in marks for _ in path.glob(mark)):
        raise OutputError(
            f"{path} will not be replaced: it holds no {' or '.join(marks)}, so this command did not write it; choose "
            "another --out, or remove it yourself"
        )


def _stage(path: Path) -> Path:
    return path.absolute().parent / f".{path.name}.partial"


def _aside(path: Path) -> Path:
    return path.absolute().parent / f".{path.name}.old"


def scratch_of(path: Path) -> Path:
    """The folder beside a destination that `scratch_folder` makes, and removes with all that is in it."""
    real = followed(path)
    return real.parent / f".{real.name}.scratch"


@contextlib.contextmanager
def _cleared(stage: Path) -> Iterator[None]:
    """Remove leftovers of an earlier, killed process, and of this one if it fails."""
    _remove(stage)
    try:
        yield
    finally:
        _remove(stage)


@contextlib.contextmanager
def _as_output_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"cannot write {path}: {reason}; nothing was left behind. Free space or choose another --out"
        ) from error


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
