"""Converts a graph to float16, which GPU targets compute in, with float32 inputs and outputs."""

from __future__ import annotations

import warnings

import numpy as np
import onnx_ir
from onnx_ir.passes import PassResult

from finegates_export.errors import ChainError, UnsupportedError, missing_extra
from finegates_export.graphs.passes.graph_pass import NewGraphPass, run_passes
from finegates_export.graphs.values import VERSIONS

LARGEST = float(np.finfo(np.float16).max)


def to_float16(graph: onnx_ir.Model) -> onnx_ir.Model:
    """A float32 graph with float16 weights and arithmetic; inputs and outputs keep their types.

    Returns:
        Another graph.

    Raises:
        UnsupportedError: a weight is too large for float16.
    """
    return run_passes(graph, [ToFloat16()])


class ToFloat16(NewGraphPass):
    """See `to_float16`."""

    def requires(self, model: onnx_ir.Model) -> None:
        """Trained weights fit; only the lowest float32, which masks use, may become the lowest float16.

        Raises:
            UnsupportedError: one does not fit.
        """
        for value in model.graph.initializers.values():
            tensor = value.const_value
            if tensor is None or not tensor.dtype.is_floating_point() or len(tensor.shape) < 1:
                continue
            largest = float(np.abs(tensor.numpy()).max(initial=0.0))
            if LARGEST < largest < float(np.finfo(np.float32).max):
                raise self.refusal(
                    UnsupportedError,
                    f"{value.name} holds {largest:.3g}, but float16 ends at {LARGEST:.0f}; choose a target that "
                    "computes in float32",
                )

    def call(self, model: onnx_ir.Model) -> PassResult:
        """Convert, by onnxruntime's own tool."""
        try:
            from onnxruntime.transformers.float16 import convert_float_to_float16
        except ImportError as error:
            raise missing_extra("onnxruntime", "cpu") from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of every weight that is rounded to 0 or cut off at the edge
            half = convert_float_to_float16(onnx_ir.to_proto(model), keep_io_types=True, disable_shape_infer=True)
        return PassResult(onnx_ir.from_proto(half), modified=True)

    def ensures(self, model: onnx_ir.Model) -> None:
        """Inputs and outputs are not float16.

        Raises:
            ChainError: an input or output is.
        """
        ends = (*model.graph.inputs, *model.graph.outputs)
        half = next((value.name for value in ends if value.dtype == onnx_ir.DataType.FLOAT16), None)
        if half is not None:
            raise self.refusal(ChainError, f"{half} became float16, but clients expect float32; {VERSIONS}")
