"""How each form of the model is called: torch modules and onnxruntime sessions alike, as functions on arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from finegates_export.errors import missing_extra
from finegates_export.onnx.write import HIDDEN, LOGITS, WithHiddenState
from finegates_export.verification.chain import Array, Forward


def torch_form(model: nn.Module, encoder: nn.Module, names: tuple[str, ...]) -> Forward:
    """A torch model, gated or plain.

    Args:
        model: called with named inputs, returns an object with `logits`.
        encoder: the module in it whose first output is the last hidden state.
        names: the inputs, in order.
    """
    both = WithHiddenState(model, encoder, names)

    def forward(inputs: dict[str, Array]) -> tuple[Array, Array | None]:
        with torch.no_grad():
            logits_BC, hidden_BSD = both(*(torch.from_numpy(inputs[name]) for name in names))
        return logits_BC.float().numpy(), hidden_BSD.float().numpy()

    return forward


def onnx_form(path: Path, *, threads: int | None = None, optimize: bool = True) -> Forward:
    """An ONNX file in onnxruntime on the CPU.

    Args:
        path: the file.
        threads: processor threads; onnxruntime's choice where None.
        optimize: False runs the graph as it is written.
    """
    session = open_session(path, threads=threads, optimize=optimize)
    names = {value.name for value in session.get_inputs()}
    outputs = [value.name for value in session.get_outputs()]

    def forward(inputs: dict[str, Array]) -> tuple[Array, Array | None]:
        results = dict(zip(outputs, session.run(None, {n: v for n, v in inputs.items() if n in names}), strict=True))
        return np.asarray(results[LOGITS]), results.get(HIDDEN)

    return forward


def open_session(path: Path, *, threads: int | None = None, optimize: bool = True) -> Any:
    """An onnxruntime session on the CPU, weights shared with nobody.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise missing_extra("onnxruntime", "cpu") from error
    settings = onnxruntime.SessionOptions()
    if threads:
        settings.intra_op_num_threads = threads
    if not optimize:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
