"""Measured costs stored between runs: one JSON file per machine, onnxruntime version and thread count.

A file that is damaged, or whose stamp does not match its name, counts as absent: its costs are measured again. A file
named by the user is refused instead, with the fields of its stamp that differ.
"""

from __future__ import annotations

import hashlib
import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from finegates_export.common.cache_folder import cache_folder, processor_name
from finegates_export.common.files import staged_file, write_json
from finegates_export.errors import InputError, missing_extra

SCHEMA = 4
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
MACHINE_FIELDS = ("processor", "cores", "onnxruntime")
"""Fields of a stamp that describe the machine; the others describe the measurement."""

Stamp = dict[str, str | int | None]
"""Everything that a cost depends on besides the shape."""
Entry = dict[str, Any]
"""One cost, or the ratio of two, as JSON types."""
Entries = dict[str, list[Entry]]


def make_stamp(target: str, threads: int) -> Stamp:
    """The stamp of a measurement on this machine.

    Args:
        target: whose graphs are measured.
        threads: CPU threads.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    return {
        "schema": SCHEMA,
        "target": target,
        "processor": processor_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "onnxruntime": _runtime_version(),
        "threads": threads,
    }


def check_stamp(stamp: object, expected: Stamp, name: str) -> None:
    """Refuse costs of another machine or another setup.

    Args:
        stamp: the stamp of the given costs.
        expected: the stamp of a measurement here and now.
        name: its name in messages.

    Raises:
        InputError: the stamps differ; the message has every differing field with both values.
    """
    if not isinstance(stamp, dict):
        raise InputError(f"{name} holds no measured costs: it lacks a stamp; measure again")
    different = [field for field in expected if stamp.get(field) != expected[field]]
    if different:
        told = ", ".join(f"{field} {stamp.get(field)!r} instead of {expected[field]!r}" for field in different)
        elsewhere = any(field in MACHINE_FIELDS for field in different)
        whose = "of another machine" if elsewhere else "measured otherwise"
        raise InputError(f"{name} holds costs {whose} ({told}); measure again where the model will run")


def check_file(path: Path, stamp: Stamp) -> None:
    """Refuse a given file that is not this machine's.

    Args:
        path: the file.
        stamp: the expected stamp.

    Raises:
        InputError: it cannot be read, holds no costs, or its stamp differs.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"costs {path} cannot be read ({error}); measure again") from error
    check_stamp(content.get("stamp") if isinstance(content, dict) else None, stamp, str(path))
    if not isinstance(content.get("entries"), dict):
        raise InputError(f"{path} holds no cost table entries; measure again")


def cost_path(stamp: Stamp) -> Path:
    """The file of a stamp; another stamp has another file."""
    digest = hashlib.sha256(json.dumps(stamp, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "costs" / f"{stamp['target']}-{stamp['threads']}-threads-{digest[:12]}.json"


def read_entries(path: Path, stamp: Stamp) -> Entries:
    """The entries of a file with this stamp, as a list per kind; empty if it cannot be used."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict) or content.get("stamp") != stamp or not isinstance(content.get("entries"), dict):
        return {}
    return {kind: entries for kind, entries in content["entries"].items() if isinstance(entries, list)}


def write_entries(path: Path, stamp: Stamp, entries: Entries) -> None:
    """Replace the whole file.

    Raises:
        OutputError: it cannot be written.
    """
    with staged_file(path, overwrite=True) as stage:
        write_json(stage, {"stamp": stamp, "entries": entries})


def _runtime_version() -> str:
    for name in RUNTIMES:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    raise missing_extra("onnxruntime", "cpu")
