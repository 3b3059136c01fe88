"""A graph in one file: the message that protobuf writes, without its copies in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir
import pytest

from finegates_export.graphs.one_file import write_one_file

FEW, MANY = 3, 70_000
"""Values whose lengths take one byte and three."""
TYPES = (np.float32, np.float16, np.int64, np.int8, np.uint8, np.bool_, ml_dtypes.bfloat16, ml_dtypes.int4)


def graph_of(**weights: np.ndarray) -> Any:
    """A graph that returns its input; its weights lie beside the way."""
    value = onnx_ir.val("x", onnx_ir.DataType.FLOAT, (2,))
    node = onnx_ir.node("Identity", [value])
    (output,) = node.outputs
    output.name, output.type, output.shape = "y", value.type, value.shape
    tensors = {name: onnx_ir.tensor(array, name=name) for name, array in weights.items()}
    initializers = [
        onnx_ir.Value(name=name, type=onnx_ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
        for name, tensor in tensors.items()
    ]
    graph = onnx_ir.Graph(
        [value], node.outputs, nodes=[node], initializers=initializers, opset_imports={"": 20}, name="graph"
    )
    model = onnx_ir.Model(graph, ir_version=10)
    model.metadata_props["removed"] = "0.4"
    return model


@pytest.mark.parametrize("count", [FEW, MANY])
@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_the_message_is_protobufs_own(tmp_path: Path, dtype: Any, count: int) -> None:
    some = np.resize(np.arange(5), count).astype(dtype)
    graph = graph_of(a=some, b=np.array(1, dtype=dtype), c=np.zeros((0, 4), dtype=dtype))
    write_one_file(graph, tmp_path / "model.onnx")
    found = onnx.load(tmp_path / "model.onnx")
    assert found == onnx_ir.to_proto(graph)
    onnx.checker.check_model(found)
    assert found != onnx_ir.to_proto(graph_of(a=some))


def test_the_same_graph_is_the_same_bytes_and_keeps_its_weights(tmp_path: Path) -> None:
    graph = graph_of(a=np.arange(300, dtype=np.float32))
    for name in ("one", "two"):
        write_one_file(graph, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    (value,) = graph.graph.initializers.values()
    assert np.array_equal(value.const_value.numpy(), np.arange(300, dtype=np.float32))


def test_weights_that_lie_beside_a_file_come_inside(tmp_path: Path) -> None:
    graph = graph_of(a=np.arange(300, dtype=np.float32))
    onnx_ir.save(graph, tmp_path / "beside.onnx", external_data="beside.onnx.data")
    write_one_file(onnx_ir.load(tmp_path / "beside.onnx"), tmp_path / "inside.onnx")
    (beside,) = onnx.load(tmp_path / "beside.onnx", load_external_data=False).graph.initializer
    (inside,) = onnx.load(tmp_path / "inside.onnx", load_external_data=False).graph.initializer
    assert onnx.external_data_helper.uses_external_data(beside)
    assert not onnx.external_data_helper.uses_external_data(inside)
    assert np.array_equal(onnx.numpy_helper.to_array(inside), np.arange(300, dtype=np.float32))


def test_a_file_that_ends_early_does_not_parse(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_one_file(graph_of(a=np.arange(300, dtype=np.float32)), path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Exception, match="pars"):
        onnx.load(path)
