"""A fused residual norm taken apart computes the same, keeps its sum, and stays apart when a session loads it."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array

from finegates_export.graphs.inspect import TAKEN_APART
from finegates_export.graphs.passes.split_norms import SplitSkipNorms
from tests.export.compare import REJECTED, TOLERANCE

WIDTH = 12
SHAPE = (2, 5, WIDTH)


def skip_norm(*, beta=True, bias=True, read_sum=True):
    generator = np.random.default_rng(0)
    names = ["gamma", *(["beta"] if beta else [""]), *(["bias"] if bias else [])]
    weights = [from_array(generator.standard_normal(WIDTH).astype(np.float32), name) for name in names if name]
    outputs = ["y", "", "", "total"] if read_sum else ["y"]
    node = make_node(
        "SkipLayerNormalization", ["x", "skip", *names], outputs, "norm", domain="com.microsoft", epsilon=1e-5
    )
    free = ["batch", "sequence", WIDTH]
    ends = {name: make_tensor_value_info(name, 1, free) for name in ("x", "skip", "y", "total")}
    graph = make_graph([node], "g", [ends["x"], ends["skip"]], [ends[name] for name in outputs if name], weights)
    opsets = [make_opsetid("", 20), make_opsetid("com.microsoft", 1)]
    return onnx_ir.from_proto(make_model(graph, opset_imports=opsets, ir_version=10))


def session_of(graph, **settings):
    options = onnxruntime.SessionOptions()
    for name, value in settings.items():
        setattr(options, name, value)
    file = onnx_ir.to_proto(graph).SerializeToString()
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def computed(graph):
    generator = np.random.default_rng(1)
    feeds = {name: generator.standard_normal(SHAPE).astype(np.float32) for name in ("x", "skip")}
    return session_of(graph).run(None, feeds)


@pytest.mark.parametrize("read_sum", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("beta", [True, False])
def test_the_parts_compute_what_the_whole_does(beta, bias, read_sum):
    whole, parts, wrong = (skip_norm(beta=beta, bias=bias, read_sum=read_sum) for _ in range(3))
    assert SplitSkipNorms()(parts).modified
    assert not SplitSkipNorms()(parts).modified
    front = ["Add", "Add"] if bias else ["Sum"]
    assert [node.op_type for node in parts.graph] == [*front, "LayerNormalization"]
    expected, found = computed(whole), computed(parts)
    assert len(expected) == len(found) == 1 + read_sum
    for one, other in zip(expected, found, strict=True):
        assert np.abs(one - other).max() < TOLERANCE * np.abs(one).max()
    SplitSkipNorms()(wrong)
    wrong.graph.node(f"norm{TAKEN_APART}").replace_input_with(0, wrong.graph.inputs[0])
    assert np.abs(computed(wrong)[0] - expected[0]).max() > REJECTED * np.abs(expected[0]).max()


@pytest.mark.parametrize("bias", [True, False])
def test_a_session_does_not_fuse_them_again(bias, tmp_path):
    def loaded(graph):
        path = str(tmp_path / "loaded.onnx")
        session_of(graph, optimized_model_filepath=path)
        return [node.op_type for node in onnx.load(path).graph.node]

    parts = skip_norm(bias=bias, read_sum=False)
    SplitSkipNorms()(parts)
    assert loaded(parts) == [node.op_type for node in parts.graph]
    first, second, *_ = parts.graph
    if bias:  # the order in which a linear's own bias comes
        x, product, shift = *first.inputs, second.inputs[1]
        first.replace_input_with(0, product), first.replace_input_with(1, shift)
        second.replace_input_with(0, first.outputs[0]), second.replace_input_with(1, x)
    first.op_type = "Add"
    assert loaded(parts) == ["SkipLayerNormalization"]
