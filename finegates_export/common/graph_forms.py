"""The forms in which a bundle holds its model, and how their files are called. Light: the runtime imports it.

Transformers.js knows the same names: its `fp32`, `q8` and `q4`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Form = Literal["float", "int8", "int4"]

GRAPH_FILES: dict[Form, str] = {"float": "model.onnx", "int8": "model_quantized.onnx", "int4": "model_q4.onnx"}
DATA_SUFFIX = ".data"
"""What the file of weights beside a graph is called, behind the graph's own name; large graphs alone have one."""


def graph_files(graph: Path) -> list[Path]:
    """A graph's file, and that of its weights where they lie beside it."""
    data = graph.with_name(graph.name + DATA_SUFFIX)
    return [graph, *([data] if data.is_file() else [])]


def graph_bytes(graph: Path) -> int:
    """What a graph's files take."""
    return sum(file.stat().st_size for file in graph_files(graph))


def form_of(quantization: str) -> Form:
    """The form that a value of `--quantize` makes."""
    return "int4" if quantization == "int4" else "int8"
