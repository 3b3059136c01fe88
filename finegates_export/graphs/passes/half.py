"""Float16 inside, float32 at the edges: what GPU targets compute in, written into the file."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from finegates_export.errors import UnsupportedError, missing_extra

LARGEST = float(np.finfo(np.float16).max)


def to_float16(graph: Any) -> Any:
    """A float32 graph with float16 weights and arithmetic; inputs and outputs keep their types.

    Args:
        graph: an `onnx_ir.Model`.

    Returns:
        Another `onnx_ir.Model`.

    Raises:
        UnsupportedError: a weight is too large for float16.
    """
    import onnx_ir

    try:
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise missing_extra("onnxruntime", "cpu") from error
    _check_range(graph)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of every weight that is rounded to 0 or cut off at the edge
        half = convert_float_to_float16(onnx_ir.to_proto(graph), keep_io_types=True, disable_shape_infer=True)
    return onnx_ir.from_proto(half)


def _check_range(graph: Any) -> None:
    """The lowest float32 that masks use becomes the lowest float16; a trained matrix must fit as it is."""
    for value in graph.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or not tensor.dtype.is_floating_point() or len(tensor.shape) < 1:
            continue
        largest = float(np.abs(tensor.numpy()).max(initial=0.0))
        if LARGEST < largest < float(np.finfo(np.float32).max):
            raise UnsupportedError(
                f"{value.name} holds {largest:.3g}, and float16 ends at {LARGEST:.0f}; choose a target that computes "
                "in float32"
            )
