"""Nodes and constants put into a graph by hand, where no pass of a library does it."""

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
        name: one that no other value has.
        values: its values.

    Returns:
        The value, to be read by nodes.
    """
    import numpy as np
    import onnx_ir

    value = onnx_ir.val(name, const_value=onnx_ir.tensor(np.ascontiguousarray(values), name=name))
    graph.initializers[name] = value
    return value


def replace_node(graph: onnx_ir.Graph, old: onnx_ir.Node, made: Sequence[onnx_ir.Node]) -> None:
    """Put nodes in the place of one that has a single output.

    Args:
        graph: changed in place.
        old: the node that goes.
        made: those that come, in order; the last one's output takes the name, shape and type of what the old one gave.
    """
    for node in made[:-1]:
        for number, output in enumerate(node.outputs):
            output.name = f"{node.name}.output" if len(node.outputs) == 1 else f"{node.name}.output_{number}"
    before, after = old.outputs[0], made[-1].outputs[0]
    after.name, after.shape, after.type = before.name, before.shape, before.type
    graph.insert_before(old, made)
    before.replace_all_uses_with(after, replace_graph_outputs=True)
    graph.remove([old], safe=True)
