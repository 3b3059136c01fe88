"""The forms of a decoder as functions: torch modules and onnxruntime sessions, both with a cache of arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from finegates_export.common.cache_layout import IDS, MASK, POSITIONS, CacheLayout
from finegates_export.common.tasks.arrays import Array, Outputs
from finegates_export.graphs.trace_cached import WithCache
from finegates_export.runtime.session import SessionOptions, open_session
from finegates_export.verification.forms import as_array
from finegates_export.verification.steps import CachedForm


def cached_torch_form(model: nn.Module, encoder: nn.Module, layout: CacheLayout) -> CachedForm:
    """A torch model, gated or plain; it reads rows in one call.

    Args:
        model: see `WithCache`.
        encoder: see `WithCache`.
        layout: the cache's.
    """
    whole = WithCache(model, encoder, layout)

    def run(inputs: dict[str, Array]) -> Outputs:
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in inputs.items()}
        past = tuple(tensors[name] for name in layout.past_names)
        with torch.no_grad():
            results = whole(tensors[IDS], tensors[MASK], tensors[POSITIONS], past)
        return {name: as_array(value) for name, value in zip(whole.outputs, results, strict=True)}

    return CachedForm(run, layout, stepwise=False)


def cached_onnx_form(path: Path, *, threads: int | None = None, optimize: bool = True) -> CachedForm:
    """An ONNX file in onnxruntime on the CPU; see `forms.onnx_form`. Unoptimized, it reads rows in one call."""
    session = open_session(path, SessionOptions(threads=threads), optimize=optimize)
    given = {value.name: value.shape for value in session.get_inputs()}
    outputs = [value.name for value in session.get_outputs()]

    def run(inputs: dict[str, Array]) -> Outputs:
        results = session.run(outputs, {name: value for name, value in inputs.items() if name in given})
        return dict(zip(outputs, results, strict=True))

    return CachedForm(run, CacheLayout.of_inputs(given), stepwise=optimize)
