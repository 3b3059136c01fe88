"""Each form of the model, torch module or onnxruntime session, as a function on arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from finegates_export.common.tasks import LOGITS, VECTORS
from finegates_export.common.tasks.arrays import Array, Outputs
from finegates_export.graphs.trace import WithHiddenState
from finegates_export.runtime.openvino_session import Computed, OpenVinoOptions, open_openvino
from finegates_export.runtime.session import Session, SessionOptions, open_session
from finegates_export.verification.precise import Forward


def torch_form(
    model: nn.Module,
    encoder: nn.Module,
    names: tuple[str, ...],
    outputs: tuple[str, ...] = (LOGITS,),
    dims: tuple[int, ...] | None = None,
) -> Forward:
    """A torch model, gated or plain.

    Args:
        model: called with named inputs, returns an object with `outputs` as attributes.
        encoder: the module in it whose first output is the last hidden state.
        names: the inputs, in order.
        outputs: outputs to return, besides the last hidden state.
        dims: residual dims that a width gate kept; the others are set to 0.
    """
    whole = WithHiddenState(model, encoder, names, outputs)
    kind = next(model.parameters()).dtype

    def forward(inputs: dict[str, Array]) -> Outputs:
        given = [torch.from_numpy(inputs[name]) for name in names]
        with torch.no_grad():
            results = whole(*(one.to(kind) if one.is_floating_point() else one for one in given))
        named = {name: as_array(value) for name, value in zip(whole.outputs, results, strict=True)}
        return {name: _at(value, dims) if name in VECTORS else value for name, value in named.items()}

    return forward


def as_array(values: torch.Tensor) -> Array:
    """Values as float32, or as float64 if they are."""
    return (values if values.dtype == torch.float64 else values.float()).numpy()


def _at(vectors: Array, dims: tuple[int, ...] | None) -> Array:
    return vectors if dims is None else vectors[..., list(dims)]


def openvino_form(ir: Path, precision: Computed, *, threads: int | None = None) -> Forward:
    """An IR in OpenVINO.

    Args:
        ir: its XML file.
        precision: what it computes in.
        threads: CPU threads; None for OpenVINO's choice.
    """
    return _session_form(open_openvino(ir, OpenVinoOptions(precision=precision, threads=threads)))


def onnx_form(path: Path, *, threads: int | None = None, optimize: bool = True, provider: str = "cpu") -> Forward:
    """An ONNX file in onnxruntime.

    Args:
        path: the file.
        threads: CPU threads; None for onnxruntime's choice.
        optimize: False runs the graph as it is written.
        provider: what runs it; see `SessionOptions`.
    """
    return _session_form(open_session(path, SessionOptions(provider=provider, threads=threads), optimize=optimize))


def _session_form(session: Session) -> Forward:
    names = {value.name for value in session.get_inputs()}
    outputs = [value.name for value in session.get_outputs()]

    def forward(inputs: dict[str, Array]) -> Outputs:
        results = session.run(outputs, {name: value for name, value in inputs.items() if name in names})
        return {name: np.asarray(value) for name, value in zip(outputs, results, strict=True)}

    return forward
