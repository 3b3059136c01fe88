"""What passes require and ensure: a graph that breaks it is refused, and the error names the pass."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx_ir.passes import PassResult, PostconditionError, PreconditionError

from finegates_export.errors import ChainError, FusionError, UnsupportedError
from finegates_export.graphs.passes.fuse import CountedFusions, FuseForOrt
from finegates_export.graphs.passes.gathers import AddGathers
from finegates_export.graphs.passes.graph_pass import GraphPass, run_passes
from finegates_export.graphs.passes.half import ToFloat16
from finegates_export.graphs.passes.keep_outputs import KeepOutputs
from finegates_export.graphs.passes.round_trips import DropRoundTrips
from finegates_export.graphs.passes.skip_normalization import FuseSkipNormalization
from finegates_export.graphs.passes.split_norms import SplitSkipNorms
from finegates_export.graphs.passes.standard import StandardOperators, Tidy
from finegates_export.graphs.passes.tied_head import TieHead
from finegates_export.graphs.passes.unpack_attention import UnpackAttention
from finegates_export.graphs.quantization.head import QuantizeHead
from finegates_export.graphs.targets import TARGETS
from finegates_export.pruning.plan import ResidualPlan
from tests.export.test_mask_and_reshapes import there_and_back
from tests.export.test_norms import skip_norm

WIDTH, UNITS = 6, 4


def products(*shapes, opset=20, scale=1.0):
    """A chain of products by matrices of these shapes: `product0`, `product1` and so on."""
    values = [
        onnx.numpy_helper.from_array(np.full(shape, scale, np.float32), f"w{i}") for i, shape in enumerate(shapes)
    ]
    names = ["x", *(f"x{i}" for i in range(1, len(shapes))), "y"]
    nodes = [
        onnx.helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]], name=f"product{i}")
        for i in range(len(shapes))
    ]
    ends = [onnx.helper.make_tensor_value_info(name, 1, ["batch", "sequence", None]) for name in "xy"]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], values)
    opsets = [onnx.helper.make_opsetid("", opset)]
    return onnx_ir.from_proto(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10))


def gathers(product="product0", side="reads", width=WIDTH):
    return AddGathers({"up": product}, [ResidualPlan("up", side, width, (0, 2), UNITS, gathered=True, why="")])


REFUSED = {
    "fused already": (FuseForOrt({}), skip_norm, FusionError, r"has SkipLayerNormalization \(norm\)"),
    "no such operator yet": (SplitSkipNorms(), lambda: products((2, 2), opset=16), FusionError, "is of opset 16"),
    "no Shape yet": (TieHead(), lambda: products((2, 2), opset=13), FusionError, "is of opset 13"),
    "no logits": (QuantizeHead(), lambda: products((2, 2)), ChainError, "no product that makes its logits"),
    "no such product": (gathers("other"), lambda: products((WIDTH, UNITS)), ChainError, "graph has no such product"),
    "turned": (gathers(), lambda: products((UNITS, WIDTH)), ChainError, "up reads 6 dims .* a product that has 4"),
    "another side": (gathers(side="writes"), lambda: products((WIDTH, UNITS)), ChainError, "up writes 6 dims .* has 4"),
    "too large": (ToFloat16(), lambda: products((2, 2), scale=7e4), UnsupportedError, "float16 ends at 65504"),
    "no such output": (KeepOutputs(("z",)), lambda: products((2, 2)), ChainError, "returns no z; it returns y"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_graph_that_a_pass_cannot_take_is_refused_by_its_name(case):
    one, graph, kind, told = REFUSED[case]
    name = type(one).__name__
    with pytest.raises(kind, match=rf"{told}.*\(pass {name}\)$"):
        run_passes(graph(), [one])
    with pytest.raises(PreconditionError, match=f"pass '{name}'") as caught:
        one(graph())
    assert isinstance(caught.value.__cause__, kind)


def undone(one):
    """The same pass, which does nothing."""
    idle = type(type(one).__name__, (type(one),), {"call": lambda _self, model: PassResult(model, modified=False)})
    made = idle.__new__(idle)
    made.__dict__.update(one.__dict__)
    return made


def residual_norm():
    sum_and_norm = skip_norm(bias=False)
    run_passes(sum_and_norm, [SplitSkipNorms()])
    next(node for node in sum_and_norm.graph if node.op_type == "Sum").op_type = "Add"
    for value in sum_and_norm.graph.inputs:
        value.shape = onnx_ir.Shape(["batch", "sequence", 12])
    sum_and_norm.graph.outputs.pop()
    return sum_and_norm


def packed_attention():
    weights = {"w": np.ones((WIDTH, 9), np.float32), "b": np.ones(9, np.float32)}
    node = onnx.helper.make_node("Attention", ["x", "w", "b"], ["y"], "packed", domain="com.microsoft", num_heads=3)
    ends = [onnx.helper.make_tensor_value_info(name, 1, ["batch", "sequence", None]) for name in "xy"]
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], tensors)
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("com.microsoft", 1)]
    return onnx_ir.from_proto(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10))


def wrongly_tied():
    graph = products((2, 2))
    node = graph.graph.node("product0")
    node.op_type, node.name = "Gemm", "lm_head"
    return graph


def with_logits():
    graph = products((2, 2))
    graph.graph.outputs[0].name = "logits"
    return graph


def with_half_input():
    graph = products((2, 2))
    graph.graph.inputs[0].dtype = onnx_ir.DataType.FLOAT16
    return graph


BROKEN = {
    "fewer than promised": (
        FuseForOrt({"attention": 1}),
        lambda: products((2, 2)),
        FusionError,
        r"fused \(attention: 0 of 1\)",
    ),
    "fewer than traced": (
        Tidy({"attention": 2}),
        lambda: products((2, 2)),
        FusionError,
        r"fused \(attention: 0 of 2\)",
    ),
    "a foreign operator": (StandardOperators(), skip_norm, FusionError, r"com\.microsoft\.SkipLayerNormalization"),
    "still fused": (undone(SplitSkipNorms()), skip_norm, FusionError, "norm is still fused"),
    "still apart": (
        undone(FuseSkipNormalization()),
        residual_norm,
        FusionError,
        "is still a norm after a residual sum",
    ),
    "still there and back": (undone(DropRoundTrips()), there_and_back, FusionError, "second still reshapes"),
    "still packed": (undone(UnpackAttention()), packed_attention, FusionError, "packed is still packed"),
    "not a table": (undone(TieHead()), wrongly_tied, FusionError, "multiplies by no embedding table"),
    "still float": (undone(QuantizeHead()), with_logits, ChainError, "the head is no integer product"),
    "not gathered": (
        undone(gathers()),
        lambda: products((WIDTH, UNITS)),
        ChainError,
        "up reads 6 dims after its gather, not 2",
    ),
    "not spread": (
        undone(gathers(side="writes")),
        lambda: products((UNITS, WIDTH)),
        ChainError,
        "up writes 6 dims after its gather, not 3",
    ),
    "a half input": (ToFloat16(), with_half_input, ChainError, "x became float16, but clients expect float32"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_pass_that_did_not_do_its_work_is_found_out(case):
    one, graph, kind, told = BROKEN[case]
    name = type(one).__name__
    with pytest.raises(kind, match=rf"{told}.*\(pass {name}\)$"):
        run_passes(graph(), [one])
    with pytest.raises(PostconditionError, match=f"pass '{name}'"):
        one(graph())


@pytest.mark.parametrize("one", [SplitSkipNorms(), FuseSkipNormalization(), DropRoundTrips(), UnpackAttention()])
def test_a_pass_that_does_its_work_is_not(one):
    makers = (skip_norm, residual_norm, there_and_back, packed_attention)
    for graph in (make() for make in makers):
        run_passes(graph, [one])
        assert not one(graph).modified, "a second time finds nothing"


def test_a_gather_that_was_made_is_not():
    graph = products((WIDTH, UNITS))
    run_passes(graph, [gathers()])
    assert graph.graph.node("product0").inputs[1].const_value.shape == (2, UNITS)


class Broken(GraphPass):
    def call(self, model):
        raise KeyError("a defect")


def test_a_defect_of_a_pass_stays_what_it_is():
    with pytest.raises(KeyError, match="a defect"):
        run_passes(products((2, 2)), [CountedNothing({}), Broken()])


class CountedNothing(CountedFusions):
    def call(self, model):
        return PassResult(model, modified=False)


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_is_a_sequence_of_passes(target):
    names = [str(one) for one in TARGETS[target].passes({})]
    assert names
    if TARGETS[target].CACHED_OPSET is None:
        with pytest.raises(UnsupportedError, match=f"--target {target} writes no decoder"):
            TARGETS[target].cached_passes(1)
    else:
        assert str(TARGETS[target].cached_passes(1)[0]) == "TieHead"


def test_targets_are_known_without_loading_passes():
    code = "import sys, finegates_export.graphs.targets; sys.exit('onnx_ir' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
