"""Finds the product node of each linear in a plain graph, and reads plain graphs back from files.

The exporter notes in which module's `forward` it traced each node. Before these notes are stripped, a linear's product
gets the linear's path as a metadata property, so that no later step has to recognize it by its weights.
"""

from __future__ import annotations

import ast
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.errors import ChainError
from finegates_export.graphs.inspect import constant_matrix
from finegates_export.graphs.values import VERSIONS, name_of

if TYPE_CHECKING:
    import onnx_ir

LINEAR = "finegates.linear"
"""The metadata property of a product node that holds its linear's module path. Files never have it."""
SCOPES = "pkg.torch.onnx.name_scopes"
"""Where torch's exporter notes the paths of the modules that a node was traced in, outermost first, as a list."""
UNKNOWN = "unk__"
"""Prefix of the names that onnx's shape inference makes up for sizes."""


def mark_linears(graph: onnx_ir.Model, linears: Collection[str], prefix: str = "") -> None:
    """Give each linear's product node the linear's path, by the module that it was traced in.

    Of a linear that is used more than once, the first product is marked: it reads the tokens. DeBERTa's linears also
    multiply position embeddings.

    Args:
        graph: as torch's exporter returns it; changed in place.
        linears: module paths.
        prefix: the prefix of these paths in the traced module.
    """
    waiting = {f"{prefix}{path}": path for path in linears}
    for node in graph.graph:
        if not waiting:
            return
        if constant_matrix(node) is None:
            continue
        scope = next((one for one in _scopes(node) if one in waiting), None)
        if scope is not None:
            node.metadata_props[LINEAR] = waiting.pop(scope)


def linear_nodes(graph: onnx_ir.Model, linears: Collection[str]) -> dict[str, str]:
    """The name of each linear's product node.

    Args:
        graph: traced with these linears, and not saved since.
        linears: module paths.

    Returns:
        Node names by module path, in the order of the graph.

    Raises:
        ChainError: a linear is not in the graph.
    """
    marked = {node.metadata_props[LINEAR]: name_of(node) for node in graph.graph if LINEAR in node.metadata_props}
    missing = next((path for path in linears if path not in marked), None)
    if missing is not None:
        raise ChainError(f"the graph has no product for {missing}; {VERSIONS}")
    wanted = set(linears)
    return {path: name for path, name in marked.items() if path in wanted}


def _scopes(node: onnx_ir.Node) -> list[str]:
    noted = node.metadata_props.get(SCOPES)
    return [] if noted is None else [str(one) for one in ast.literal_eval(noted)]


def load_graph(path: Path) -> onnx_ir.Model:
    """Read a graph file that a quantizer wrote, with its unknown sizes nameless.

    The quantizer names each unknown size. Fusion would take such a name for a size that differs from all others, and
    find no attention if query heads share keys and values.
    """
    import onnx_ir

    model = onnx_ir.load(path)
    for value in (value for node in model.graph for value in node.outputs):
        if value.shape is not None:
            value.shape = onnx_ir.Shape(None if str(size).startswith(UNKNOWN) else size for size in value.shape)
    return model
