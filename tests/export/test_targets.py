"""Every target gets the operators, the float type, the widths and the integers that it takes, for every family."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_ir
import pytest

from finegates_export import ExportOptions, export, verify
from finegates_export.costs.blocks.measured_targets import MEASURED_TARGETS
from finegates_export.errors import ChainError, FusionError, InputError, UnsupportedError
from finegates_export.graphs.inspect import inspect_file
from finegates_export.graphs.passes.graph_pass import run_passes
from finegates_export.graphs.passes.half import LARGEST, to_float16
from finegates_export.graphs.passes.standard import StandardOperators
from finegates_export.graphs.targets import TARGETS
from finegates_trainer import TrainOptions
from tests.tiers import tiered
from tests.tiny_models import ENCODER_FAMILIES, IMAGE_VARIANTS, TRACED_VARIANTS

LENIENT = {"min_agreement": 0.5, "max_metric_loss": 100.0}
"""A tiny random model decides by a hair."""
INT8 = 5e-1
"""Largest difference of a tiny int8 model, of the scale; another model is a whole scale away."""
HALF = 5e-3


def run_of(workshop, variant):
    task = "image-classification" if variant in IMAGE_VARIANTS else None
    return workshop.run("coupled", variant=variant, task=task, layers=1)


def operators(path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def domains(path) -> set[str]:
    return {node.domain for node in onnx.load(path).graph.node}


def matrices(path):
    """Constant matrices that products multiply by."""
    graph = onnx_ir.load(path).graph
    return {
        node.name: node.inputs[1].const_value.numpy()
        for node in graph
        if node.op_type in ("MatMul", "Gemm") and node.inputs[1].const_value is not None
    }


def report_of(bundle):
    return json.loads((bundle / "bundle.json").read_text())["report"]


@pytest.mark.parametrize("variant", tiered(TRACED_VARIANTS, fast=("bert",), default=("deberta-v3", "vit", "qwen3")))
def test_a_portable_graph_has_standard_operators_alone(workshop, variant):
    bundle = workshop.bundle(run_of(workshop, variant), target="portable")
    assert domains(bundle / "model.onnx") <= {"", "ai.onnx"}
    report = report_of(bundle)
    assert len(report["links"]) >= 5
    assert all(link["exact"] for link in report["links"])


@pytest.mark.parametrize("variant", tiered(ENCODER_FAMILIES, default=("bert", "modernbert", "mpnet", "vit")))
def test_a_tensorrt_graph_is_float16_in_standard_operators(workshop, variant):
    bundle = workshop.bundle(run_of(workshop, variant), target="tensorrt", **LENIENT)
    assert domains(bundle / "model.onnx") <= {"", "ai.onnx"}
    assert {matrix.dtype for matrix in matrices(bundle / "model.onnx").values()} == {np.dtype(np.float16)}
    last = report_of(bundle)["links"][-1]
    assert not last["exact"]
    assert 1e-6 < last["relative"] < HALF, "rounded, and no more than that"
    assert {value.type.tensor_type.elem_type for value in onnx.load(bundle / "model.onnx").graph.output} == {1}


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["bert", "modernbert", "mpnet", "vit"])
def test_a_cuda_graph_is_float16_and_fused(workshop, variant):
    bundle = workshop.bundle(run_of(workshop, variant), target="ort-cuda", **LENIENT)
    facts = inspect_file(bundle / "model.onnx")
    assert facts.fused["attention"] == 1
    assert facts.half
    assert not facts.exact
    assert report_of(bundle)["links"][-1]["relative"] < HALF


@pytest.mark.parametrize("target", ["ort-cuda", "tensorrt"])
def test_widths_are_what_tensor_cores_take_whole(workshop, target):
    run = workshop.run("coupled", layers=1)
    wanted = TARGETS[target].WIDTHS
    layer = export(ExportOptions(ckpt=run, target=target, plan_only=True)).plan.layers[0]
    assert layer.attention.vo_width % wanted.head_multiple == 0
    assert len(layer.feed_forward.neurons) % wanted.ffn_multiple == 0
    any_width = export(ExportOptions(ckpt=run, plan_only=True)).plan.layers[0]
    assert any_width.attention.vo_width % wanted.head_multiple, "the run has widths that need padding"


@pytest.mark.slow
@pytest.mark.parametrize("target", ["ort-cpu", "portable", "tensorrt"])
def test_static_int8_is_signed_and_around_every_linear(workshop, target):
    run = workshop.run("coupled")
    bundle = workshop.bundle(run, target=target, quantize="int8-static", **LENIENT)
    path = bundle / "model_quantized.onnx"
    facts = inspect_file(path)
    assert facts.integer_products == 12 == report_of(bundle)["quantized"]["products"]
    assert inspect_file(bundle / "model.onnx").integer_products == 0
    zero_points = [
        value.const_value.numpy()
        for node in onnx_ir.load(path).graph
        if node.op_type == "DequantizeLinear"
        for value in node.inputs[2:]
    ]
    assert len(zero_points) >= 12
    assert {zero.dtype for zero in zero_points} == {np.dtype(np.int8)}
    assert not any(zero.any() for zero in zero_points), "symmetric: TensorRT refuses any other zero point"
    assert report_of(bundle)["links"][-1]["relative"] < INT8
    assert facts.half == (target == "tensorrt")
    links = verify(run, bundle)
    assert [link.name for link in links] == ["model.onnx", "model_quantized.onnx", "texts, as delivered"]
    assert not links[1].exact


@pytest.mark.slow
def test_dynamic_int8_is_another_form(workshop):
    bundle = workshop.bundle(workshop.run("coupled"), target="portable", quantize="int8", **LENIENT)
    found = operators(bundle / "model_quantized.onnx")
    assert found["MatMulInteger"] == found["DynamicQuantizeLinear"] + 4 == 12  # Q, K and V share their input
    assert not found["QuantizeLinear"]


def test_static_int8_needs_rows(workshop, tmp_path):
    run = workshop.run("coupled", samples=0, layers=1)
    with pytest.raises(InputError, match=r"quantize: int8-static takes .* rows, and .* kept none .*--quantize int8"):
        export(ExportOptions(ckpt=run, out=tmp_path / "b", quantize="int8-static", threads=1))
    assert not (tmp_path / "b").exists()


def test_what_a_target_does_not_take_is_refused_by_name(tmp_path):
    with pytest.raises(
        ValueError, match=r"quantize: 'int8' is not one of none, int8-static, which --target tensorrt takes"
    ):
        ExportOptions(ckpt=tmp_path, out=tmp_path / "b", target="tensorrt", quantize="int8")
    with pytest.raises(ValueError, match=r"opset: 18 lacks the float16 scales"):
        ExportOptions(ckpt=tmp_path, out=tmp_path / "b", target="tensorrt", quantize="int8-static", opset=18)
    ExportOptions(ckpt=tmp_path, out=tmp_path / "b", target="portable", quantize="int8-static", opset=18)
    with pytest.raises(
        ValueError, match=r"quantize: 'int8-static' is not one of none, int4, which --target ort-cuda takes$"
    ):
        ExportOptions(ckpt=tmp_path, out=tmp_path / "b", target="ort-cuda", quantize="int8-static")
    with pytest.raises(
        ValueError, match=r"target: 'tpu' is not one of ort-cpu, portable, openvino, ort-cuda, tensorrt"
    ):
        ExportOptions(ckpt=tmp_path, out=tmp_path / "b", target="tpu")
    with pytest.raises(ValueError, match=r"target-speedup: no costs are measured for portable here; use ort-cpu"):
        TrainOptions(base="b", data="d", out=tmp_path, target="portable", target_speedup=(2.0,))
    assert set(MEASURED_TARGETS) < set(TARGETS)


def test_a_weight_beyond_float16_is_refused_by_name():
    def graph(value):
        weight = onnx.numpy_helper.from_array(np.full((2, 2), value, np.float32), "big")
        node = onnx.helper.make_node("MatMul", ["x", "big"], ["y"])
        ends = [onnx.helper.make_tensor_value_info(name, 1, ["n", 2]) for name in "xy"]
        made = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], [weight])
        return onnx_ir.from_proto(onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 20)]))

    with pytest.raises(UnsupportedError, match=r"big holds 7e\+04, but float16 ends at 65504"):
        to_float16(graph(7e4))
    assert to_float16(graph(LARGEST)) is not None


def test_a_foreign_operator_does_not_pass_for_a_standard_one(workshop):
    bundle = workshop.bundle(workshop.run("coupled"))
    with pytest.raises(FusionError, match=r"not of the ONNX standard: com\.microsoft"):
        run_passes(onnx_ir.load(bundle / "model.onnx"), [StandardOperators()])


@pytest.mark.slow
def test_float16_that_predicts_otherwise_is_not_delivered(workshop, tmp_path, monkeypatch):
    def spoiled(graph):
        half = to_float16(graph)
        bias = next(value for value in half.graph.initializers.values() if value.name.endswith("classifier.bias"))
        bias.const_value = onnx_ir.tensor(bias.const_value.numpy() + np.float16([9, -9, 0]), name=bias.name)
        return half

    monkeypatch.setattr("finegates_export.graphs.passes.half.to_float16", spoiled)
    with pytest.raises(ChainError, match="float16 "):
        export(ExportOptions(ckpt=workshop.run("coupled", layers=1), out=tmp_path / "b", target="tensorrt", threads=1))
    assert not (tmp_path / "b").exists()
