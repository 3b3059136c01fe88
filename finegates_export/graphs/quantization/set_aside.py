"""Keeps weights that a quantizer does not touch away from it: onnxruntime's holds each weight three times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from finegates_export.graphs.saving import save_graph
from finegates_export.graphs.values import name_of, weight_of

LARGE = 2**20
"""Bytes from which a weight is worth it."""


def set_aside(source: Path, path: Path, products: Sequence[str]) -> list[str]:
    """Write a graph whose large weights are inputs, except those that the named nodes read.

    Args:
        source: file with a graph.
        path: file to write, its weights beside it.
        products: names of nodes.

    Returns:
        The names of the weights that became inputs.
    """
    import onnx_ir

    model = onnx_ir.load(source)
    graph, chosen = model.graph, set(products)
    read = {value.name for node in graph if node.name in chosen for value in node.inputs if value is not None}
    aside = [
        value
        for value in graph.initializers.values()
        if weight_of(value).nbytes >= LARGE and value.name not in read and not value.is_graph_output()
    ]
    for value in aside:
        del graph.initializers[name_of(value)]
        value.const_value = None
        graph.inputs.append(value)
    save_graph(model, path, inside=0)
    return [name_of(value) for value in aside]


def put_back(names: Sequence[str], source: Path, path: Path, target: Path) -> None:
    """Write a graph with its weights in place of those inputs again.

    Args:
        names: those that `set_aside` returned.
        source: the file that has them.
        path: file with a graph that takes them as inputs.
        target: file to write.
    """
    import onnx_ir

    model, weights = onnx_ir.load(path), onnx_ir.load(source).graph.initializers
    inputs = {value.name: value for value in model.graph.inputs}
    for name in names:
        value = inputs[name]
        model.graph.inputs.remove(value)
        value.const_value = weights[name].const_value
        model.graph.register_initializer(value)
    save_graph(model, target)
