"""The forms in which a bundle holds its model, and the names of their files. Light: the runtime imports it.

The names are those of Transformers.js: its `fp32`, `q8` and `q4`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Form = Literal["float", "int8", "int4"]

GRAPH_FILES: dict[Form, str] = {"float": "model.onnx", "int8": "model_quantized.onnx", "int4": "model_q4.onnx"}
IR_FILE = "openvino_model.xml"
"""The float graph as OpenVINO's IR, by the name that optimum-intel looks for; its weights lie in a `.bin` beside it."""
DATA_SUFFIX = ".data"
"""Suffix of the weights file next to a graph, after the graph's own name; only large graphs have one."""
FULL_BITS = 8
"""Bits of an int8 weight that fills its byte."""


def graph_files(graph: Path) -> list[Path]:
    """A graph's file, and its weights file if there is one."""
    data = graph.with_name(graph.name + DATA_SUFFIX)
    return [graph, *([data] if data.is_file() else [])]


def ir_files(xml: Path) -> list[Path]:
    """The two files of an OpenVINO IR."""
    return [xml, xml.with_suffix(".bin")]


def graph_bytes(graph: Path) -> int:
    """Total size of a graph's files."""
    return sum(file.stat().st_size for file in graph_files(graph))


def form_of(quantization: str) -> Form:
    """The form made by a value of `--quantize`."""
    return "int4" if quantization == "int4" else "int8"
