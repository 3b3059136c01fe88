"""Writes a graph as OpenVINO's intermediate representation (IR), with attention as one operator a layer.

The IR is an XML file of operators and a binary file of weights beside it, under the names that optimum-intel and
sentence-transformers look for. Specification: docs.openvino.ai, "OpenVINO IR format" and "ScaledDotProductAttention".
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.common.graph_forms import IR_FILE, ir_files
from finegates_export.errors import FusionError, missing_extra

if TYPE_CHECKING:
    import openvino

ATTENTION = "ScaledDotProductAttention"
SOFTMAX = "Softmax"


def write_ir(graph: Path, folder: Path, *, attention_layers: int, half_weights: bool = False) -> Path:
    """Write a graph's IR.

    Args:
        graph: an ONNX file of standard operators.
        folder: where the two files go.
        attention_layers: layers whose attention is not empty; each has to be one operator.
        half_weights: store weights in float16, which halves the file; arithmetic stays what the session asks for.

    Returns:
        The XML file.

    Raises:
        FusionError: OpenVINO reads fewer operators of attention.
        MissingExtraError: OpenVINO is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise missing_extra("openvino", "openvino") from error
    model = openvino.Core().read_model(graph)
    _check_attention(model, attention_layers)
    _name_anew(model)
    target = folder / IR_FILE
    openvino.save_model(model, target, compress_to_fp16=half_weights)
    return target


def ir_bytes(xml: Path) -> int:
    """Total size of an IR's two files."""
    return sum(file.stat().st_size for file in ir_files(xml))


def _check_attention(model: openvino.Model, expected: int) -> None:
    found = Counter(operator.get_type_name() for operator in model.get_ops())
    if found[ATTENTION] < expected:
        raise FusionError(
            f"OpenVINO reads {found[ATTENTION]} attention operators of {expected} layers, and {found[SOFTMAX]} softmax "
            "operators beside them; it would be correct but slow, and nothing was written. Install the versions of "
            "constraints.txt"
        )


def _name_anew(model: openvino.Model) -> None:
    """Give operators names that do not depend on how many this process made before: the same run, the same bytes."""
    kept = {"Parameter", "Result"}
    for number, operator in enumerate(model.get_ordered_ops()):
        kind = operator.get_type_name()
        if kind not in kept:
            operator.set_friendly_name(f"{kind}_{number}")
    model.set_friendly_name("model")
