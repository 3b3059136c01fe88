"""A small ONNX graph under construction: it builds the blocks of the cost table.

Weights are random, since their values do not affect time. Batch and sequence stay free axes, as in an
exported graph: onnxruntime optimizes a graph of fixed sizes further.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from finegates_export.graphs.inspect import CONTRIB_DOMAIN, TAKEN_APART

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx_ir

IR_VERSION = 10

Attribute = int | float | str | list[int]
"""The value of an attribute of a node."""


class BlockGraph:
    """Nodes, in the order they are added.

    Args:
        name: the graph's name.
        opset: ONNX opset version.
        seed: seed of the weights.
    """

    def __init__(self, name: str, opset: int, seed: int) -> None:
        import onnx_ir

        self.generator = np.random.default_rng(seed)
        self.graph = onnx_ir.Graph([], [], nodes=[], opset_imports={"": opset, CONTRIB_DOMAIN: 1}, name=name)
        self.model = onnx_ir.Model(self.graph, ir_version=IR_VERSION)

    def input(self, name: str, dims: Sequence[int | str]) -> onnx_ir.Value:
        """A float32 input; free axes are given by name."""
        import onnx_ir

        value = onnx_ir.val(name, onnx_ir.DataType.FLOAT, list(dims))
        self.graph.inputs.append(value)
        return value

    def add(
        self,
        operator: str,
        inputs: Sequence[onnx_ir.Value | None],
        name: str,
        *,
        contrib: bool = False,
        **attributes: Attribute,
    ) -> onnx_ir.Value:
        """Append a node.

        Args:
            operator: its type.
            inputs: values; None for an omitted one.
            name: the node's; its outputs are named after it.
            contrib: whether it is one of onnxruntime's own operators.
            attributes: its attributes.

        Returns:
            Its output.
        """
        (output,) = self._add(operator, inputs, 1, name, contrib, attributes)
        output.name = f"{name}.output"
        return output

    def split(
        self, inputs: Sequence[onnx_ir.Value], outputs: int, name: str, **attributes: int
    ) -> tuple[onnx_ir.Value, ...]:
        """A Split at the end, which has several outputs."""
        made = self._add("Split", inputs, outputs, name, False, attributes)
        for number, value in enumerate(made):
            value.name = f"{name}.output{number}"
        return made

    def _add(
        self,
        operator: str,
        inputs: Sequence[onnx_ir.Value | None],
        outputs: int,
        name: str,
        contrib: bool,
        attributes: Mapping[str, Attribute],
    ) -> tuple[onnx_ir.Value, ...]:
        import onnx_ir

        domain = CONTRIB_DOMAIN if contrib else ""
        node = onnx_ir.node(operator, list(inputs), attributes, domain=domain, num_outputs=outputs, name=name)
        self.graph.append(node)
        return tuple(node.outputs)

    def constant(self, name: str, values: npt.NDArray[np.generic] | np.generic) -> onnx_ir.Value:
        """An initializer."""
        import onnx_ir

        value = onnx_ir.val(name, const_value=onnx_ir.tensor(values, name=name))
        self.graph.initializers[name] = value
        return value

    def integers(self, name: str, *values: int) -> onnx_ir.Value:
        """A vector of int64."""
        return self.constant(name, np.asarray(values, np.int64))

    def weights(self, name: str, *dims: int) -> onnx_ir.Value:
        """Random float32 numbers around 0."""
        return self.constant(name, self.generator.random(dims, np.float32) - 0.5)

    def linear(self, x: onnx_ir.Value, inputs: int, outputs: int, name: str, *, biased: bool) -> onnx_ir.Value:
        """MatMul, and Add if there is a bias."""
        import onnx_ir

        result = self.add("MatMul", [x, self.weights(f"{name}.weight", inputs, outputs)], name)
        result.dtype = onnx_ir.DataType.FLOAT  # the pass that adds gathers copies it
        if biased:
            result = self.add("Add", [result, self.weights(f"{name}.bias", outputs)], f"{name}.sum")
            result.dtype = onnx_ir.DataType.FLOAT
        return result

    def residual_norm(
        self, y: onnx_ir.Value, x: onnx_ir.Value, width: int, name: str, *, biased: bool, inner_bias: bool
    ) -> onnx_ir.Value:
        """The sum of two tensors, normed as `graphs.passes.split_norms` writes it.

        `inner_bias` says whether the preceding linear has a bias, which is added last.
        """
        if inner_bias:
            added = self.add("Add", [y, x], f"{name}.add")
            total = self.add("Add", [added, self.weights(f"{name}.bias", width)], f"{name}.sum")
        else:
            total = self.add("Sum", [y, x], f"{name}.sum")
        vectors = [self.weights(f"{name}.{word}", width) for word in ("gamma", *(["beta"] if biased else []))]
        return self.add("LayerNormalization", [total, *vectors], f"{name}{TAKEN_APART}", axis=-1, epsilon=1e-12)

    def first_number(self, value: onnx_ir.Value, name: str) -> None:
        """Make the first number of a (batch, sequence, width) tensor an output: returning all of it takes time."""
        import onnx_ir

        bounds = [self.constant(f"{name}.{word}", np.full(3, at)) for word, at in (("start", 0), ("end", 1))]
        first = self.add("Slice", [value, *bounds], name)
        first.dtype, first.shape = onnx_ir.DataType.FLOAT, onnx_ir.Shape([1, 1, 1])
        self.graph.outputs.append(first)

    def to_bytes(self) -> bytes:
        """The serialized graph."""
        import onnx_ir

        file: bytes = onnx_ir.to_proto(self.model).SerializeToString()
        return file
