"""Which node of a plain graph is which linear, and plain graphs read back from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from finegates_export.errors import ChainError
from finegates_export.graphs.inspect import constant_matrix

UNKNOWN = "unk__"
"""How the names begin that onnx's shape inference gives."""


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
            # The first row tells most matrices apart, and comparing whole ones takes seconds.
            if columns.shape != weight.shape[::-1] or not np.array_equal(columns[0], weight[:, 0]):
                continue
            if np.array_equal(columns, weight.T):
                found[path] = node.name
                del waiting[path]
                break
    if waiting:
        raise ChainError(f"the graph has no product for {next(iter(waiting))}; install the versions of constraints.txt")
    return found


def load_graph(path: Path) -> Any:
    """A graph file that a quantizer wrote, as an `onnx_ir.Model` whose sizes are known or not.

    The quantizer names each size that it does not know. Fusion would take such a name for a size of its own, which is
    none of the others, and find no attention where query heads share keys and values.
    """
    import onnx_ir

    model = onnx_ir.load(path)
    for value in (value for node in model.graph for value in node.outputs):
        if value.shape is not None:
            value.shape = onnx_ir.Shape(None if str(size).startswith(UNKNOWN) else size for size in value.shape)
    return model
