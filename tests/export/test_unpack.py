"""Packed attention in three products: the same numbers, and only where heads leave strips of the kernels empty."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest

from finegates_export.costs.blocks.layer_shapes import COPIES, AttentionShape
from finegates_export.costs.blocks.ort_cpu import block_graph
from finegates_export.graphs.passes.packing import packed_width, packs_well
from finegates_export.graphs.passes.unpack_attention import UnpackAttention
from tests.export.compare import REJECTED, TOLERANCE

NARROW = AttentionShape(2, 8, hidden=32, all_heads=4, head_dim=32, heads=4, qk=8, vo=8, packed=True)
WHOLE_STRIPS = AttentionShape(2, 8, hidden=32, all_heads=4, head_dim=32, heads=4, qk=16, vo=16, packed=True)


def loaded(shape):
    """The block's graph, with all of the result as its output."""
    model = onnx.load_from_string(block_graph(shape))
    last = [node for node in model.graph.node if node.op_type == "LayerNormalization"][-1]
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(last.output[0], 1, None))
    return onnx_ir.from_proto(model)


def computed(graph):
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        onnx_ir.to_proto(graph).SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    generator = np.random.default_rng(1)
    feeds = {name: generator.standard_normal(dims).astype(np.float32) for name, dims in NARROW.feeds.items()}
    return session.run(None, feeds)[0]


def operators(graph):
    return Counter(node.op_type for node in graph.graph)


def weights(graph):
    return sum(
        value.const_value.size
        for value in graph.graph.initializers.values()
        if value.const_value.dtype == onnx_ir.DataType.FLOAT
    )


def difference(one, other):
    return np.abs(one - other).max() / np.abs(one).max()


def test_three_products_compute_what_the_packed_one_does() -> None:
    graph = loaded(NARROW)
    before, size = computed(graph), weights(graph)
    assert UnpackAttention()(graph).modified
    kinds = operators(graph)
    assert (kinds["Attention"], kinds["MultiHeadAttention"], kinds["MatMul"]) == (0, COPIES, 4 * COPIES)
    assert difference(before, computed(graph)) < TOLERANCE
    assert weights(graph) == size, "the packed matrices are gone"


@pytest.mark.parametrize("lost", ["scale", "query bias", "mask"])
def test_nothing_may_be_lost_on_the_way(lost) -> None:
    graph = loaded(NARROW)
    before = computed(graph)
    UnpackAttention()(graph)
    for node in [*graph.graph]:
        if lost == "scale" and node.op_type == "MultiHeadAttention":
            del node.attributes["scale"]
        if lost == "mask" and node.op_type == "MultiHeadAttention":
            node.replace_input_with(5, None)
        if lost == "query bias" and node.name.endswith("query_bias"):
            node.outputs[0].replace_all_uses_with(node.inputs[0])
    assert difference(before, computed(graph)) > REJECTED


def test_whole_strips_stay_packed() -> None:
    graph = loaded(WHOLE_STRIPS)
    assert not UnpackAttention()(graph).modified
    assert operators(graph)["Attention"] == COPIES


@pytest.mark.parametrize(
    ("heads", "width", "packed"),
    [
        (12, 32, True),
        (12, 16, True),
        (12, 17, False),
        (12, 24, False),
        (12, 30, True),
        (1, 1, True),
        (2, 1, True),
        (3, 1, False),
    ],
)
def test_columns_that_are_wasted_decide(heads, width, packed) -> None:
    assert bool(packs_well(heads, width)) == packed


def test_a_packed_width_costs_what_its_strips_do() -> None:
    assert packed_width([1, 16, 17, 33, 39], 40).tolist() == [16, 16, 32, 40, 40]
