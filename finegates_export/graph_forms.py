"""The forms in which a bundle holds its model, and how their files are called. Light: the runtime imports it.

Transformers.js knows the same names: its `fp32`, `q8` and `q4`.
"""

from __future__ import annotations

from typing import Literal

Form = Literal["float", "int8", "int4"]

GRAPH_FILES: dict[Form, str] = {"float": "model.onnx", "int8": "model_quantized.onnx", "int4": "model_q4.onnx"}


def form_of(quantization: str) -> Form:
    """The form that a value of `--quantize` makes."""
    return "int4" if quantization == "int4" else "int8"
