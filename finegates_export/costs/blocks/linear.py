"""Linears for onnxruntime, as the cost table measures them."""

from __future__ import annotations

import numpy as np

from finegates_export.costs.blocks.block_graph import BlockGraph
from finegates_export.costs.blocks.linear_shape import LinearShape
from finegates_export.graphs.inspect import CONTRIB_DOMAIN
from finegates_export.graphs.values import weight_of
from finegates_export.pruning.plan import Dims, ResidualPlan


def linear_graph(shape: LinearShape, opset: int, seed: int) -> bytes:
    """A graph that holds `shape.copies` linears of one shape, side by side.

    Gathers are inserted by the pass that inserts them into exported graphs, so the measured graph is the exported one.

    Args:
        shape: the linear.
        opset: ONNX opset version.
        seed: seed of the weights and the closed dims.

    Returns:
        An ONNX file. Its input `x` is (batch, sequence, width); it returns the first number of each linear.
    """
    from finegates_export.graphs.passes.gathers import add_gathers

    graph = BlockGraph("linears", opset, seed)
    source = graph.input("x", ["batch", "sequence", shape.width_in])
    sides = []
    for copy in range(shape.copies):
        name = f"linear{copy}"
        result = graph.linear(source, shape.width_in, shape.width_out, name, biased=shape.bias and not shape.activation)
        if shape.activation:
            bias = graph.weights(f"{name}.bias", shape.width_out)
            result = graph.add("BiasGelu", [result, bias], f"{name}.activation", contrib=True)
        graph.first_number(result, f"{name}.first")
        sides += _sides(shape, name, graph.generator)
    add_gathers(graph.model, {side.linear: side.linear for side in sides}, sides)
    if shape.precision == "int8":
        _multiply_integers(graph)
    return graph.to_bytes()


def _multiply_integers(graph: BlockGraph) -> None:
    """The products as the one operator of dynamic int8 in a session, which rounds its input itself.

    A session uses several operators if products share their input. In one graph they would share it too, so each is
    written as the one operator.
    """
    import onnx_ir
    import onnx_ir.passes.common as passes

    for node in [node for node in graph.graph if node.op_type == "MatMul"]:
        inputs, outputs = weight_of(node.inputs[1]).shape.numpy()
        matrix = graph.generator.integers(-127, 128, (inputs, outputs), np.int8)
        parts = {"weight": matrix, "scale": np.full(outputs, 1e-2, np.float32), "zero": np.zeros(outputs, np.int8)}
        constants = [graph.constant(f"{node.name}.int8.{name}", values) for name, values in parts.items()]
        old = node.outputs[0]
        product = onnx_ir.node(
            "DynamicQuantizeMatMul", [node.inputs[0], *constants], domain=CONTRIB_DOMAIN, name=f"{node.name}.int8"
        )
        new = product.outputs[0]
        new.name, new.shape, new.type = f"{old.name}.int8", old.shape, old.type
        graph.graph.insert_before(node, product)
        old.replace_all_uses_with(new)
        graph.graph.remove([node], safe=True)
    passes.RemoveUnusedNodesPass()(graph.model)


def _sides(shape: LinearShape, name: str, generator: np.random.Generator) -> list[ResidualPlan]:
    """The plan's entry for the linear, with closed dims drawn at random."""
    sides = []
    if shape.read_from is not None:
        dims = _draw(shape.read_from, shape.inputs, generator)
        sides.append(ResidualPlan(name, "reads", shape.read_from, dims, shape.outputs, gathered=True, why=""))
    if shape.write_to is not None:
        dims = _draw(shape.write_to, shape.outputs, generator)
        sides.append(ResidualPlan(name, "writes", shape.write_to, dims, shape.inputs, gathered=True, why=""))
    return sides


def _draw(width: int, count: int, generator: np.random.Generator) -> Dims:
    return tuple(int(dim) for dim in np.sort(generator.permutation(width)[:count]))
