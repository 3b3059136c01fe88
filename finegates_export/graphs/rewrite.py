"""Adds constants to a graph and replaces its nodes, for what no library's pass does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnx_ir


def add_constant(graph: onnx_ir.Graph, name: str, values: npt.NDArray[np.generic]) -> onnx_ir.Value:
    """A new initializer.

    Args:
        graph: changed in place.
        name: unique in the graph.
        values: its values.

    Returns:
        The value, for nodes to read.
    """
    import numpy as np
    import onnx_ir

    value = onnx_ir.val(name, const_value=onnx_ir.tensor(np.ascontiguousarray(values), name=name))
    graph.initializers[name] = value
    return value


def replace_node(graph: onnx_ir.Graph, old: onnx_ir.Node, made: Sequence[onnx_ir.Node]) -> None:
    """Replace a node with a single output by others.

    Args:
        graph: changed in place.
        old: the replaced node.
        made: its replacements, in order; the last one's output takes over the old output's name, shape and type.
    """
    for node in made[:-1]:
        for number, output in enumerate(node.outputs):
            output.name = f"{node.name}.output" if len(node.outputs) == 1 else f"{node.name}.output_{number}"
    before, after = old.outputs[0], made[-1].outputs[0]
    after.name, after.shape, after.type = before.name, before.shape, before.type
    graph.insert_before(old, made)
    before.replace_all_uses_with(after, replace_graph_outputs=True)
    graph.remove([old], safe=True)
