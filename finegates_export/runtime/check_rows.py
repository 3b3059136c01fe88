"""Rows that a bundle carries with the answers of its export: they tell a wrong kernel or a damaged build at first load.

A graph is proven on the machine that exports it. Where it is served, another processor, another onnxruntime or a build
of somebody's own computes it; the rows say whether it computes the same. What passed is noted in the user's cache.

Shapes: B rows, S tokens.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from finegates_export.common.cache_folder import cache_folder, processor_features, processor_name
from finegates_export.common.cache_layout import CacheLayout
from finegates_export.common.files import JsonObject
from finegates_export.common.graph_forms import Form
from finegates_export.common.tasks.arrays import Array
from finegates_export.errors import InputError
from finegates_export.runtime.session import Session, SessionOptions, onnxruntime_version, run_session

CHECK_FILE = "check.safetensors"
"""The rows: `inputs.NAME`, and `FORM.NAME` for the outputs of each form."""
INPUTS = "inputs"
TOLERANCES: dict[str, float] = {"float": 2e-3, "half": 5e-2, "int8": 0.15, "int4": 0.05}
"""How far outputs may differ, as a share of the largest: by form, `half` for a float form in float16."""
MOST_TOLERANCE = 0.2
WIDEST = 256
"""Values of an output's last axis that are kept."""


def check_session(folder: Path, info: JsonObject, form: Form, session: Session, options: SessionOptions) -> None:
    """Run a bundle's check rows, unless they have passed on this machine with this onnxruntime before.

    Args:
        folder: the bundle.
        info: its `bundle.json`, checked.
        form: which of its graphs.
        session: of that graph.
        options: how it was opened.

    Raises:
        InputError: the rows are damaged, or this onnxruntime answers otherwise on this machine than at the export.
    """
    told = info.get("check")
    tolerance = _tolerance(folder, told, form)
    if told is None or tolerance is None:  # of an earlier version, or of a form without rows
        return
    mark = _mark(folder, info, form, options)
    if mark is not None and mark.is_file():
        return
    compare_rows(folder, form, session, tolerance, f"onnxruntime {onnxruntime_version()}")
    if mark is not None:
        _note(mark)


def answers(session: Session, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """What a graph says to some rows: the first values of each output, a decoder's logits at the last token alone.

    Args:
        session: of the graph.
        inputs: arrays by name, without a decoder's past, which is empty.
    """
    shapes = {value.name: value.shape for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    layout, rows = CacheLayout.of_inputs(shapes), len(next(iter(inputs.values())))
    if layout.layers:
        names = names[:1]
    feed = {**{name: value for name, value in inputs.items() if name in shapes}, **layout.empty(rows)}
    found = run_session(session, names, feed)
    kept = (value[:, -1:] if layout.layers else value for value in found)
    return {
        name: np.ascontiguousarray(value[..., :WIDEST], np.float32) for name, value in zip(names, kept, strict=True)
    }


def _tolerance(folder: Path, told: Any, form: Form) -> float | None:
    """How far the outputs of a form may differ; None where the bundle has no rows of it."""
    if told is None:
        return None
    forms = told.get("tolerances")
    tolerance = forms.get(form) if isinstance(forms, dict) else None
    if told.get("file") != CHECK_FILE or not isinstance(forms, dict):
        raise InputError(
            f"{folder / 'bundle.json'} is damaged (check: names no {CHECK_FILE} or tolerances); export again"
        )
    if tolerance is not None and not (isinstance(tolerance, float) and 0 < tolerance <= MOST_TOLERANCE):
        told = f"check: the tolerance {tolerance!r} is not in (0, {MOST_TOLERANCE}]"
        raise InputError(f"{folder / 'bundle.json'} is damaged ({told}); export again")
    return tolerance


def compare_rows(folder: Path, form: Form, session: Session, tolerance: float, runtime: str) -> None:
    """Run a bundle's check rows.

    Args:
        folder: the bundle.
        form: the form whose outputs are expected.
        session: of a graph of it.
        tolerance: how far outputs may differ, as a share of the largest.
        runtime: what runs the session, with its version, for messages.

    Raises:
        InputError: the rows are damaged, or the answers differ.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    file = folder / CHECK_FILE
    try:
        kept = load_file(file)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(f"{file} cannot be read as safetensors ({error}); export again") from error
    inputs = {name.partition(".")[2]: value for name, value in kept.items() if name.startswith(f"{INPUTS}.")}
    expected = {name.partition(".")[2]: value for name, value in kept.items() if name.startswith(f"{form}.")}
    if not inputs or not expected:
        raise InputError(f"{file} is damaged (it has no inputs, or no outputs of the form {form}); export again")
    found = answers(session, inputs)
    for name, value in expected.items():
        got = found.get(name)
        if got is None or got.shape != value.shape:
            raise InputError(f"{file} is damaged ({name}: other axes than the graph's); export again")
        off = float(np.abs(got - value).max() / max(float(np.abs(value).max()), 1e-6)) if value.size else 0.0
        if not off <= tolerance:  # NaN is no number that is small enough
            raise InputError(
                f"{runtime} computes the {form} graph of {folder} otherwise on this machine ({processor_name()}) than "
                f"at the export: {name} of its check rows is off by {off:.2g} of the largest value, more than "
                f"{tolerance:g}; install another version of it, or export for this machine"
            )


def _mark(folder: Path, info: JsonObject, form: Form, options: SessionOptions) -> Path | None:
    """The file that notes that the rows have passed here; None without a home folder."""
    import onnxruntime

    machine = [
        platform.machine(),
        processor_name(),
        processor_features(),
        onnxruntime.__version__,
        onnxruntime.__file__,
    ]
    files = {name: digest for name, digest in info["files"].items() if name.endswith((".onnx", ".data", CHECK_FILE))}
    stamp = json.dumps([machine, form, options.provider, info["check"], sorted(files.items())])
    try:
        return cache_folder() / "checked" / hashlib.sha256(stamp.encode()).hexdigest()[:32]
    except RuntimeError:
        return None


def _note(mark: Path) -> None:
    """Write a mark whole or not at all; a cache that cannot be written is no reason to fail."""
    part = mark.with_name(f"{mark.name}.{os.getpid()}.part")
    with contextlib.suppress(OSError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        part.write_text("passed\n", encoding="ascii")
        part.replace(mark)
