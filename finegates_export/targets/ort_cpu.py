"""onnxruntime on the CPU: contrib operators fused in, any width taken."""

from __future__ import annotations

from typing import Any

import numpy as np

from finegates_export.gates.settle import Widths
from finegates_export.onnx.fuse import fuse_for_ort
from finegates_export.onnx.gathers import add_gathers
from finegates_export.onnx.inspect import CONTRIB_DOMAIN
from finegates_export.plan import Dims, ResidualPlan
from finegates_export.targets.linear_shape import LinearShape

NAME = "ort-cpu"
OPSET = 20
IR_VERSION = 10
WIDTHS = Widths(head_multiple=1, ffn_multiple=1)
"""Which widths its kernels like."""


def finish(graph: Any, expected_fusions: dict[str, int]) -> Any:
    """The passes that turn a plain graph into this target's."""
    return fuse_for_ort(graph, expected_fusions)


def linear_graph(shape: LinearShape, seed: int = 0) -> bytes:
    """A graph that holds `shape.copies` linears of one shape and nothing else, for the cost table.

    The gathers are put in by the pass that puts them into an exported graph, so what is measured is what is written.

    Args:
        shape: the linear.
        seed: of the weights and of the dims that are closed.

    Returns:
        An ONNX file. Its input `x` is (batch, sequence, width); of each linear it returns the first number only, so
        that handing results over is not measured along.
    """
    import onnx_ir

    generator = np.random.default_rng(seed)
    source = onnx_ir.val("x", onnx_ir.DataType.FLOAT, ["batch", "sequence", shape.width_in])
    graph = onnx_ir.Graph([source], [], nodes=[], opset_imports={"": OPSET, CONTRIB_DOMAIN: 1}, name="linears")
    model = onnx_ir.Model(graph, ir_version=IR_VERSION)
    sides = []
    for copy in range(shape.copies):
        _add_linear(graph, source, shape, f"linear{copy}", generator)
        sides += _sides(shape, f"linear{copy}", generator)
    add_gathers(model, {side.linear: side.linear for side in sides}, sides)
    file: bytes = onnx_ir.to_proto(model).SerializeToString()
    return file


def _add_linear(graph: Any, source: Any, shape: LinearShape, name: str, generator: np.random.Generator) -> None:
    """MatMul, Add or BiasGelu, and a Slice down to one number."""
    import onnx_ir

    matrix = generator.random((shape.width_in, shape.width_out), np.float32) - 0.5
    result = _append(graph, "MatMul", [source, _constant(graph, f"{name}.weight", matrix)], name)
    if shape.bias:
        bias = _constant(graph, f"{name}.bias", generator.random(shape.width_out, np.float32) - 0.5)
        operator, domain = ("BiasGelu", CONTRIB_DOMAIN) if shape.activation else ("Add", "")
        result = _append(graph, operator, [result, bias], f"{name}.bias_node", domain)
    bounds = [_constant(graph, f"{name}.{word}", np.full(3, at)) for word, at in (("start", 0), ("end", 1))]
    first = _append(graph, "Slice", [result, *bounds], f"{name}.first")
    first.shape = onnx_ir.Shape([1, 1, 1])
    graph.outputs.append(first)


def _sides(shape: LinearShape, name: str, generator: np.random.Generator) -> list[ResidualPlan]:
    """What the plan would say of the linear, closed dims drawn at random."""
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


def _append(graph: Any, operator: str, inputs: list[Any], name: str, domain: str = "") -> Any:
    import onnx_ir

    node = onnx_ir.node(operator, inputs, domain=domain, name=name)
    node.outputs[0].name = f"{name}.output"
    node.outputs[0].dtype = onnx_ir.DataType.FLOAT
    graph.append(node)
    return node.outputs[0]


def _constant(graph: Any, name: str, values: Any) -> Any:
    import onnx_ir

    value = onnx_ir.val(name, const_value=onnx_ir.tensor(values, name=name))
    graph.initializers[name] = value
    return value
