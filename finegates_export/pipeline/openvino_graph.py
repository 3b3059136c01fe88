"""Writes an export's OpenVINO form beside its ONNX graph, and proves the precisions that it is computed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finegates_export.errors import ChainError
from finegates_export.pipeline.openvino_form import OpenVinoForm

if TYPE_CHECKING:
    from pathlib import Path

    from finegates_export.pipeline.float_graphs import FloatGraphs
    from finegates_export.pipeline.proof import Proof
    from finegates_export.runtime.openvino_session import Computed

LINK = "OpenVINO, {}"
"""Names of its links in the chain, by precision."""


def write_openvino(graphs: FloatGraphs, proof: Proof, *, half_weights: bool) -> OpenVinoForm:
    """Write the delivered graph's IR, and add it to the chain.

    At float32 it is held to the chain's tolerance; with weights in float16, and in bfloat16, to predictions and metric
    as other forms of lower precision are. An IR that does not hold in bfloat16 is delivered for float32 alone.

    Args:
        graphs: the float graphs; the IR goes into their folder.
        proof: of the source.
        half_weights: store weights in float16.

    Raises:
        ChainError: in float32 it does not compute what the gated model computes.
        FusionError: OpenVINO reads fewer attention operators than layers.
        MissingExtraError: OpenVINO is not installed.
    """
    from finegates_export.graphs.openvino_ir import ir_bytes, write_ir

    layers = graphs.pruned.plan.attention_layers
    ir = write_ir(graphs.delivered, graphs.folder, attention_layers=layers, half_weights=half_weights)
    proof.add_ir(LINK.format("float32"), ir, "float32", exact=not half_weights)
    unproven = _bfloat16(ir, proof)
    proven: tuple[Computed, ...] = ("float32",) if unproven else ("float32", "bfloat16")
    return OpenVinoForm("float16" if half_weights else "float32", ir_bytes(ir), layers, proven, unproven)


def _bfloat16(ir: Path, proof: Proof) -> str:
    """Try an IR in bfloat16, and return why it is not proven in it; empty if it is."""
    from finegates_export.runtime.openvino_session import has_bfloat16

    if not has_bfloat16():
        return "the processor of this export does not compute in it"
    name = LINK.format("bfloat16")
    try:
        proof.add_ir(name, ir, "bfloat16", exact=False)
    except ChainError as error:
        proof.chain.drop(name)
        return str(error).split(";")[0]
    return ""
