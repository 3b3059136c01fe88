"""The graph that an engine is built from: a bundle's, with its files checked, or an ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finegates_export.common.graph_forms import GRAPH_FILES
from finegates_export.common.options import check
from finegates_export.errors import InputError
from finegates_export.runtime.bundle_files import read_bundle

TARGET = "tensorrt"


@dataclass(frozen=True)
class Source:
    """A graph and its context."""

    graph: Path
    folder: Path | None = None
    """The bundle that it belongs to."""
    max_length: int | None = None
    """Maximum tokens per text, if a bundle says so."""


def find_source(model: Path, *, quantized: bool) -> Source:
    """Find the graph.

    Args:
        model: a bundle's folder, or an ONNX file.
        quantized: use the bundle's int8 graph.

    Raises:
        InputError: there is none, a file of the bundle was changed, or the bundle was made for another target.
        ValueError: the int8 graph of an ONNX file.
    """
    if model.is_file():
        told = f"needs the int8 graph of a bundle, but {model} is a file; give the bundle, or omit --quantized"
        check(not quantized, "quantized", told)
        return Source(model)
    if not model.is_dir():
        raise InputError(f"{model} does not exist; give a bundle or an ONNX file")
    info = read_bundle(model)
    if info["target"] != TARGET:
        raise InputError(
            f"{model} was exported for {info['target']}, whose operators TensorRT does not support; export it again "
            f"with --target {TARGET}"
        )
    file = GRAPH_FILES["int8" if quantized else "float"]
    graphs = [name for name in info["graphs"] if Path(name).name == file]
    if not graphs:
        raise InputError(f"{model} has no int8 graph; export it with --quantize int8-static")
    return Source(model / graphs[0], model, info["max_length"])
