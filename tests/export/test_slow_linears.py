"""Linears that int8 would slow down: which are asked about, who decides, and that they then stay in float."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import onnx
import onnxruntime
import pytest

from finegates_export import ExportOptions, export
from finegates_export.costs.blocks.linear_shape import LinearShape
from finegates_export.costs.blocks.ort_cpu import block_graph
from finegates_export.costs.cost_table import CostTable
from finegates_export.costs.int8_judge import Int8Judge
from finegates_export.graphs.inspect import inspect_file
from finegates_export.pruning.residual_sides import always, residual_plans
from finegates_export.pruning.slow_linears import LinearSize, slow_linears
from tests.export.test_families import gated_tiny, shrunk, structure_of
from tests.tiny import LORA

CLOSED = {"residual": 0.3, "ffn": 0.3}
LENIENT = {"min_agreement": 0.0, "max_metric_loss": 100.0}
LAYER = "bert.encoder.layer.0."
FLOAT = LinearShape(64, 20, 30)
INT8 = dataclasses.replace(FLOAT, precision="int8")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FINEGATES_CACHE", str(tmp_path / "cache"))


def table(int8_over_float, asked):
    """A cost table whose measurements are given."""

    def measurer(question):
        asked.append(question)
        return [[1000.0 * (int8_over_float if shape.precision == "int8" else 1)] * 20 for shape in question.shapes]

    return CostTable(threads=1, measurer=measurer)


# the judge


def test_a_linear_that_int8_slows_down_is_kept_in_float_with_the_figures():
    asked = []
    why = Int8Judge(table(1.25, asked), tokens=256)(LinearSize(32, 64))
    assert why == "is kept in float: int8 takes 1.25 of the time (1.25 to 1.25) at 256 tokens"
    (question,) = asked
    assert question.shapes == (
        LinearShape(256, 32, 64, bias=False, precision="int8"),
        LinearShape(256, 32, 64, bias=False),
    )
    assert (question.first, question.second) == ((0,), (1,))


@pytest.mark.parametrize("ratio", [0.5, 1.0])
def test_int8_stays_where_it_is_faster_or_nobody_can_tell(ratio):
    assert Int8Judge(table(ratio, []), tokens=256)(LinearSize(32, 64)) is None


def test_a_vague_measurement_takes_nothing_out_of_int8():
    def vague(question):
        return [[1500.0, 900.0] * 10 if shape.precision == "int8" else [1000.0] * 20 for shape in question.shapes]

    assert Int8Judge(CostTable(threads=1, measurer=vague), tokens=256)(LinearSize(32, 64)) is None


def test_widths_that_are_near_share_a_measurement_and_a_gather_goes_along():
    asked = []
    judge = Int8Judge(table(0.5, asked), tokens=64)
    for outputs in (250, 256, 262):
        judge(LinearSize(384, outputs))
    assert len(asked) == 1
    judge(LinearSize(380, 83, read_from=384))
    judge(LinearSize(83, 20, write_to=384))
    gathered, spread = (question.shapes[0] for question in asked[1:])
    assert (gathered.inputs, gathered.outputs, gathered.read_from) == (384, 80, 384)
    assert (spread.inputs, spread.outputs, spread.write_to) == (80, 20, 384)


def test_what_was_measured_is_in_the_file_by_precision():
    kept = table(1.5, [])
    assert kept.cheaper([INT8], [FLOAT]).chosen == "b"
    asked = []
    again = table(0.5, asked)
    decision = again.cheaper([INT8], [FLOAT])
    assert decision.why == "float32: 0.67 of the time (0.67 to 0.67) at 64 tokens"
    assert asked == []
    assert again.cheaper([FLOAT], [INT8]).why == "int8: 0.50 of the time (0.50 to 0.50) at 64 tokens"
    assert len(asked) == 1


# the measured graph


def test_an_impossible_precision_is_refused_and_a_possible_one_goes_to_json_and_back():
    with pytest.raises(ValueError, match="precision: 'int2' is not one of float32, int8"):
        LinearShape(64, 20, 30, precision="int2")
    assert LinearShape.from_json(json.loads(json.dumps(INT8.to_json()))) == INT8 != FLOAT


def session_operators(graph, tmp_path):
    """What a session runs, once it has optimized a graph."""
    settings = onnxruntime.SessionOptions()
    settings.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    settings.log_severity_level = 3
    onnxruntime.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]


def test_measured_is_the_operator_that_a_session_makes_of_an_exported_linear(workshop, tmp_path):
    bundle = workshop.bundle(workshop.run("coupled", layers=1), quantize="int8", **LENIENT)
    exported = session_operators(str(bundle / "model_quantized.onnx"), tmp_path)
    assert exported.count("DynamicQuantizeMatMul") == 3
    assert exported.count("MatMulIntegerToFloat") == exported.count("DynamicQuantizeLinear") + 2 == 3, "Q, K and V"
    measured = session_operators(block_graph(INT8), tmp_path)
    assert measured.count("DynamicQuantizeMatMul") == INT8.copies
    assert not {"MatMul", "DynamicQuantizeLinear"} & set(measured)
    assert "DynamicQuantizeMatMul" not in session_operators(block_graph(FLOAT), tmp_path)


@pytest.mark.parametrize(
    "sides", [{}, {"read_from": 25}, {"write_to": 35}, {"bias": False}, {"activation": True}], ids=str
)
def test_the_graph_in_integers_reads_and_writes_what_the_float_one_does(sides):
    shape = LinearShape(6, 20, 30, precision="int8", **sides)
    model = onnx.load_from_string(block_graph(shape))
    ends = [node.input[0] for node in model.graph.node if node.op_type == "Slice"]
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(end, 1, None) for end in ends)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"x": np.ones((2, 3, shape.width_in), np.float32)})
    assert {output.shape for output in outputs} == {(2, 3, shape.width_out)}
    assert len(outputs) == shape.copies
    matrices = [tuple(value.dims) for value in model.graph.initializer if value.data_type == onnx.TensorProto.INT8]
    assert (20, 31 if "write_to" in sides else 30) in matrices


# the linears of a model


def asked_of(variant, layout="coupled", closed=None, gathers=None):
    gated, _ = gated_tiny(variant, layout, closed=closed or {"ffn": 0.3})
    model, plan = shrunk(gated)
    structure = structure_of(model)
    sides = residual_plans(model, structure, gathers) if gathers else plan.residual
    asked = []
    found = slow_linears(model, structure, sides, lambda size: asked.append(size) or "slow")
    return asked, [left.linear for left in found], model, structure


@pytest.mark.parametrize("variant", ["bert", "modernbert", "mpnet", "deberta-v3", "vit"])
def test_every_linear_is_asked_about_once_those_that_read_one_tensor_together(variant):
    asked, found, model, structure = asked_of(variant)
    assert sorted(found) == sorted(structure.linears())
    assert len(asked) == 4 * len(structure.layers)
    widths = [tuple(model.get_submodule(path).weight.shape) for path in structure.layers[0].linears()]
    assert sum(size.inputs * size.outputs for size in asked[:4]) == sum(rows * columns for rows, columns in widths)


def test_linears_behind_gathers_of_their_own_are_asked_about_apart():
    asked, found, _, structure = asked_of("bert", "matrix", CLOSED, always)
    assert sorted(found) == sorted(structure.linears())
    assert len(asked) == 6 * len(structure.layers)
    assert all(size.read_from == 32 or size.write_to == 32 for size in asked)
    assert all(min(size.inputs, size.outputs) < 32 for size in asked)


def test_a_layer_that_went_is_not_asked_about():
    asked, found, _, _ = asked_of("bert", closed={"ffn": 1.0})
    assert len(asked) == 2 * 2
    assert not any("intermediate" in path for path in found)


# the export


def slow_where(monkeypatch, inputs, outputs):
    def judge(_self, size):
        return "is kept in float: it was said" if (size.inputs, size.outputs) == (inputs, outputs) else None

    monkeypatch.setattr(Int8Judge, "__call__", judge)


@pytest.fixture
def run(workshop):
    return workshop.run("coupled", LORA, layers=1)


def neurons_of(run):
    return len(export(ExportOptions(ckpt=run, plan_only=True)).plan.layers[0].feed_forward.neurons)


@pytest.mark.slow
def test_slow_linears_stay_in_float_and_the_report_says_why(run, tmp_path, monkeypatch):
    slow_where(monkeypatch, 32, neurons_of(run))
    report = export(ExportOptions(ckpt=run, out=tmp_path / "b", quantize="int8", threads=1, **LENIENT))
    up = f"{LAYER}intermediate.dense"
    assert [left.linear for left in report.quantized.left_in_float] == [up]
    assert report.quantized.products == inspect_file(tmp_path / "b" / "model_quantized.onnx").integer_products == 5
    assert f"{up} is kept in float: it was said" in str(report)
    told = json.loads((tmp_path / "b" / "bundle.json").read_text())["report"]
    assert (
        told["quantized"]["left_in_float"] == told["slow"] == [{"linear": up, "why": "is kept in float: it was said"}]
    )
    assert "| 5 linears quantized, 1 left in float |" in (tmp_path / "b" / "README.md").read_text()


def test_a_plan_says_so_too(run, monkeypatch):
    slow_where(monkeypatch, 32, neurons_of(run))
    report = export(ExportOptions(ckpt=run, plan_only=True, quantize="int8"))
    assert str(report).splitlines()[-1] == f"{LAYER}intermediate.dense is kept in float: it was said"
    assert report.quantized is None


@pytest.mark.parametrize(
    "options",
    [
        {"quantize": "int8", "int8_linears": "all"},
        {"quantize": "int8", "target": "portable"},
        {"quantize": "int8-static"},
        {"quantize": "int4"},
        {},
    ],
    ids=str,
)
def test_nothing_is_asked_where_there_is_nothing_to_decide(run, monkeypatch, options):
    def nobody(*_):
        raise AssertionError("nothing was to be measured")

    monkeypatch.setattr(Int8Judge, "__call__", nobody)
    assert export(ExportOptions(ckpt=run, plan_only=True, **options)).slow == ()
    with pytest.raises(AssertionError, match="nothing was to be measured"):
        export(ExportOptions(ckpt=run, plan_only=True, quantize="int8"))


@pytest.mark.slow
def test_where_everything_is_slow_the_quantized_graph_is_the_float_one(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Int8Judge, "__call__", lambda *_: "is kept in float: it was said")
    report = export(ExportOptions(ckpt=run, out=tmp_path / "b", quantize="int8", threads=1))
    assert report.quantized.products == 0
    assert len(report.quantized.left_in_float) == 6
    assert report.quantized.agreement == 1.0


def test_an_unknown_choice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="int8-linears: 'never' is not one of auto, all"):
        ExportOptions(ckpt=tmp_path, out=tmp_path / "b", quantize="int8", int8_linears="never")


def test_a_real_process_compares_both_precisions(monkeypatch):
    from finegates_export.costs.timing.block_times import Precision, Question, measure_blocks

    question = Question((INT8, FLOAT), "ort-cpu", 1, Precision(0.9, 0.0), first=(0,), second=(1,))
    times = measure_blocks(question)
    assert [len(rounds) for rounds in times] == [16, 16]
    assert min(min(rounds) for rounds in times) > 0.0
