"""Opens a bundle's graph in the runtime that its user asks for, or in the one that is faster here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finegates_export.common.files import JsonObject
from finegates_export.common.graph_forms import Form
from finegates_export.common.options import check as check_option
from finegates_export.errors import MissingExtraError, UnsupportedError
from finegates_export.runtime.bundle_files import graph_in
from finegates_export.runtime.check_rows import TOLERANCES, check_session, compare_rows
from finegates_export.runtime.fastest import Timed, faster
from finegates_export.runtime.openvino_session import (
    OpenVinoGraph,
    OpenVinoOptions,
    OpenVinoSession,
    Precision,
    open_openvino,
    openvino_version,
)
from finegates_export.runtime.reloading import open_forked
from finegates_export.runtime.session import OrtSession, Session, SessionOptions, onnxruntime_version
from finegates_export.runtime.versions import check_version

Runtime = Literal["onnxruntime", "openvino", "auto"]
RUNTIMES: tuple[Runtime, ...] = ("onnxruntime", "openvino", "auto")


@dataclass(frozen=True)
class Wanted:
    """What a user asks for; see `load`."""

    form: Form
    runtime: Runtime | None
    precision: Precision
    streams: int | None

    def __post_init__(self) -> None:
        known = self.runtime is None or self.runtime in RUNTIMES
        check_option(known, "runtime", f"{self.runtime!r} is not one of {', '.join(RUNTIMES)}")
        computed = ("auto", "float32", "bfloat16")
        message = f"{self.precision!r} is not one of {', '.join(computed)}"
        check_option(self.precision in computed, "precision", message)


@dataclass(frozen=True)
class Opened:
    """A graph that is ready to run."""

    session: Session
    graph: Path
    runtime: Runtime
    told: str
    """What runs it, and why, in words."""

    def cached(self) -> OrtSession:
        """The session of a decoder, whose cache stays in onnxruntime's memory.

        Raises:
            UnsupportedError: another runtime runs it.
        """
        if isinstance(self.session, OpenVinoSession):
            raise UnsupportedError("runtime: text generation runs in onnxruntime alone; omit runtime")
        return self.session  # type: ignore[return-value]  # of the two runtimes the other one

    def check(self, folder: Path, info: JsonObject, form: Form, options: SessionOptions) -> None:
        """Run the bundle's check rows.

        Args:
            folder: the bundle.
            info: its `bundle.json`.
            form: which of its graphs.
            options: how an onnxruntime session was opened.

        Raises:
            InputError: this runtime answers otherwise on this machine than the exporting one did.
        """
        if not isinstance(self.session, OpenVinoSession):
            check_session(folder, info, form, self.session, options)
        elif info.get("check") is not None:
            tolerance = TOLERANCES["float" if self.session.precision == "float32" else "half"]
            compare_rows(folder, form, self.session, tolerance, f"OpenVINO {openvino_version()}")


def open_graph(folder: Path, info: JsonObject, wanted: Wanted, options: SessionOptions) -> Opened:
    """Open one of a bundle's graphs.

    Args:
        folder: the bundle.
        info: its `bundle.json`.
        wanted: form, runtime and precision.
        options: of an onnxruntime session; its threads are OpenVINO's too.

    Raises:
        InputError: the bundle lacks the form, or a runtime cannot read its file.
        MissingExtraError: the runtime is not installed.
        UnsupportedError: the bundle has no IR, a form that has none, or a precision that it was not proven in.
    """
    ir = OpenVinoGraph.of(folder, info["openvino"]) if info.get("openvino") else None
    has_ir = ir is not None and wanted.form == "float"
    runtime = wanted.runtime or ("openvino" if has_ir and info["target"] == "openvino" else "onnxruntime")
    if runtime == "openvino" or (runtime == "auto" and has_ir):
        if ir is None or not has_ir:
            raise UnsupportedError(
                f"runtime: {folder} has no {wanted.form} graph for OpenVINO; export it with --target openvino, and "
                "load its float form"
            )
        if runtime == "openvino":
            return _openvino(ir, wanted, options)
        return _faster(folder, info, ir, wanted, options)
    return _onnxruntime(folder, info, wanted.form, options)


def _onnxruntime(folder: Path, info: JsonObject, form: Form, options: SessionOptions) -> Opened:
    version = onnxruntime_version()
    check_version(version, info)
    graph = graph_in(folder, info, form)
    return Opened(open_forked(graph, options), graph, "onnxruntime", f"onnxruntime {version}")


def _openvino(ir: OpenVinoGraph, wanted: Wanted, options: SessionOptions) -> Opened:
    precision = ir.precision(wanted.precision)
    chosen = OpenVinoOptions(precision=precision, threads=options.threads, streams=wanted.streams)
    return Opened(open_openvino(ir.path, chosen), ir.path, "openvino", f"OpenVINO {openvino_version()} in {precision}")


def _faster(folder: Path, info: JsonObject, ir: OpenVinoGraph, wanted: Wanted, options: SessionOptions) -> Opened:
    """The runtime that is faster here; the only one, if the other is not installed."""
    try:
        other = f"OpenVINO {openvino_version()} in {ir.precision(wanted.precision)}"
    except MissingExtraError:
        return _onnxruntime(folder, info, wanted.form, options)
    try:
        one = f"onnxruntime {onnxruntime_version()}"
    except MissingExtraError:
        return _openvino(ir, wanted, options)
    makers = {
        one: lambda: _onnxruntime(folder, info, wanted.form, options).session,
        other: lambda: _openvino(ir, wanted, options).session,
    }
    timed: Timed = faster(info, makers, {"threads": options.threads, "streams": wanted.streams})
    chosen = (
        _openvino(ir, wanted, options) if timed.fastest == other else _onnxruntime(folder, info, wanted.form, options)
    )
    return Opened(chosen.session, chosen.graph, chosen.runtime, timed.told)
