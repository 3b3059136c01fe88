"""Dynamic int8: weights signed and per channel, activations quantized as they come. Before fusion, not after.

onnxruntime's quantizer skips fused attention with ragged widths and would leave Q, K and V in float.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from finegates_export.errors import ChainError, missing_extra
from finegates_export.onnx.inspect import constant_matrix, head_nodes


def quantize_dynamic_int8(source: Path, target: Path, exclude: list[str]) -> None:
    """Write the int8 form of a plain (unfused) graph.

    The layers' linears become integer products. The head's (pooler, classifier) stay in float: they see one token a
    row, cost nothing, and decide the answer. Embedding tables stay in float too.

    Args:
        source: file with a plain graph.
        target: file to write.
        exclude: names of product nodes that stay in float.
    """
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise missing_extra("onnxruntime", "cpu") from error
    with _quiet():
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=[*_head_products(source), *exclude],
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )


def product_nodes(graph: Any, weights: dict[str, Any]) -> dict[str, str]:
    """Which product node of a plain graph computes which linear, found by the weights themselves.

    Args:
        graph: an `onnx_ir.Model` of plain operators.
        weights: float32 arrays of shape (outputs, inputs), by the linears' paths.

    Raises:
        ChainError: a linear is not in the graph.
    """
    waiting = dict(weights)
    found: dict[str, str] = {}
    for node in graph.graph:
        matrix = constant_matrix(node)
        if matrix is None:
            continue
        columns = matrix.const_value.numpy()
        for path, weight in waiting.items():
            if columns.shape == weight.shape[::-1] and np.array_equal(columns, weight.T):
                found[path] = node.name
                del waiting[path]
                break
    if waiting:
        raise ChainError(f"the graph has no product for {next(iter(waiting))}; install the versions of constraints.txt")
    return found


def load_graph(path: Path) -> Any:
    """A graph file as an `onnx_ir.Model`."""
    import onnx_ir

    return onnx_ir.load(path)


def _head_products(source: Path) -> list[str]:
    """Names of the head's products, also those the quantizer gives them when it splits a Gemm."""
    names = [node.name for node in head_nodes(load_graph(source)) if node.op_type in ("MatMul", "Gemm")]
    return [*names, *(f"{name}_MatMul" for name in names)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer advises a pre-processing step, on the root logger; the graph has had it."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
