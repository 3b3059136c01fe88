"""Quantized forms: 4-bit weights at any width, what stays in float and why, and what the report tells of them."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_ir
import onnxruntime
import pytest
import torch
from torch import nn

import finegates_export
from finegates_export import ExportOptions, export, verify
from finegates_export.errors import ChainError, FusionError, InputError
from finegates_export.graphs.inspect import inspect_file
from finegates_export.graphs.quantization.int4 import FLOAT_STEPS, INTEGER_STEPS, quantize_int4
from finegates_export.graphs.quantization.int8 import quantize_dynamic_int8
from finegates_export.graphs.quantization.set_aside import set_aside
from finegates_export.pipeline.sensitivity import blockwise_int4, integers, rank_by_sensitivity
from tests.export.conftest import bundle_info
from tests.tiers import tiered
from tests.tiny_models import IMAGE_VARIANTS

LENIENT = {"min_agreement": 0.0, "max_metric_loss": 100.0}
"""A tiny random model decides by a hair."""
INT4 = 0.6
"""Largest difference of a tiny 4-bit model, of the scale; another model is a whole scale away."""
QUANTIZERS = {
    "int8": "finegates_export.graphs.quantization.int8.quantize_dynamic_int8",
    "int4": "finegates_export.graphs.quantization.int4.quantize_int4",
}
UP = "bert.encoder.layer.0.intermediate.dense"


@pytest.fixture(scope="module")
def run(workshop):
    return workshop.run("coupled", layers=1)


def exported(run, out, quantize, **options):
    settings = {"int8_linears": "all", **LENIENT, **options}
    return export(ExportOptions(ckpt=run, out=out, quantize=quantize, threads=1, **settings))


def product_graph(path, *weights):
    """A file with products one after another: `product` by the weight `w0`, then those by `w1` and so on."""
    names = ["x", *(f"x{number}" for number in range(1, len(weights))), "y"]
    ends = [onnx.helper.make_tensor_value_info(name, 1, None) for name in "xy"]
    nodes = [
        onnx.helper.make_node("MatMul", [taken, f"w{number}"], [given], name=f"product{number or ''}")
        for number, (taken, given) in enumerate(itertools.pairwise(names))
    ]
    initializers = [onnx.numpy_helper.from_array(weight, f"w{number}") for number, weight in enumerate(weights)]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], initializers)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), path)


def multiplied(path, x):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def test_weights_that_were_set_aside_come_back_as_they_were(tmp_path, monkeypatch):
    plain, without, apart = (tmp_path / f"{name}.onnx" for name in ("plain", "without", "apart"))
    generator = np.random.default_rng(0)
    product_graph(plain, *(generator.standard_normal((32, 32)).astype(np.float32) for _ in range(3)))
    assert set_aside(plain, tmp_path / "all.onnx", ["product1"]) == [], "small ones stay"
    quantize_dynamic_int8(plain, without, ["product1"])
    monkeypatch.setattr("finegates_export.graphs.quantization.set_aside.LARGE", 32 * 32)
    assert set_aside(plain, tmp_path / "some.onnx", ["product1"]) == ["w0", "w2"]
    quantize_dynamic_int8(plain, apart, ["product1"])
    one, other = (onnx.load(path).graph for path in (without, apart))
    found, wanted = ({tensor.name: tensor.SerializeToString() for tensor in made.initializer} for made in (other, one))
    assert found == wanted
    assert {"w0", "w2"} < found.keys()
    assert "w1" not in found
    assert [value.name for value in other.input] == ["x"]
    x = generator.standard_normal((2, 5, 32)).astype(np.float32)
    assert np.array_equal(multiplied(without, x), multiplied(apart, x))
    assert not np.array_equal(multiplied(plain, x), multiplied(apart, x))


# 4-bit weights


@pytest.mark.parametrize("level", [FLOAT_STEPS, INTEGER_STEPS])
@pytest.mark.parametrize("block_size", [16, 32, 128])
@pytest.mark.parametrize(("inputs", "outputs"), [(83, 48), (32, 83), (83, 83), (1, 7), (129, 1)])
def test_any_width_is_packed_and_multiplies_like_the_rounded_matrix(tmp_path, inputs, outputs, block_size, level):
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((inputs, outputs)).astype(np.float32)
    x = generator.standard_normal((2, 5, inputs)).astype(np.float32)
    plain, packed = tmp_path / "plain.onnx", tmp_path / "packed.onnx"
    product_graph(plain, weight)
    quantize_int4(plain, packed, ["product"], block_size=block_size, accuracy_level=level)
    (node,) = onnx.load(packed).graph.node
    assert node.op_type == "MatMulNBits"
    assert inspect_file(packed).encoder_weights == inputs * outputs
    rounded = blockwise_int4(block_size).weight(torch.from_numpy(weight.T)).numpy().T
    found, scale = multiplied(packed, x), np.abs(x @ weight).max()
    # Rounding x to int8 too moves little; a weight that lies between two steps may go either way.
    assert np.abs(found - x @ rounded).max() < 0.03 * scale
    if inputs > 1:
        assert np.abs(x @ rounded - x @ weight).max() > 0.01 * scale, "4 bits round visibly"


def test_weights_of_a_large_graph_lie_beside_its_4_bit_form(tmp_path, monkeypatch):
    monkeypatch.setattr("finegates_export.graphs.saving.INSIDE_LIMIT", 0)
    weight = np.random.default_rng(0).standard_normal((64, 48)).astype(np.float32)
    plain, packed = tmp_path / "plain.onnx", tmp_path / "packed.onnx"
    product_graph(plain, weight)
    quantize_int4(plain, packed, ["product"], block_size=32, accuracy_level=FLOAT_STEPS)
    assert (tmp_path / "packed.onnx.data").stat().st_size > 64 * 48 // 2
    assert multiplied(packed, np.ones((1, 1, 64), np.float32))[0].shape == (1, 48)


def test_the_library_leaves_logging_as_it_was(tmp_path):
    import logging

    before = (logging.root.level, [*logging.root.handlers], logging.root.manager.disable)
    product_graph(tmp_path / "plain.onnx", np.eye(32, dtype=np.float32))
    quantize_int4(tmp_path / "plain.onnx", tmp_path / "packed.onnx", ["product"], block_size=32, accuracy_level=4)
    assert (logging.root.level, [*logging.root.handlers], logging.root.manager.disable) == before


@pytest.mark.parametrize(
    "variant", tiered(["bert", "modernbert", "mpnet", "deberta-v3", "vit"], fast=1, default=("modernbert",))
)
def test_every_linear_of_the_layers_is_packed_and_nothing_else_is(workshop, variant):
    task = "image-classification" if variant in IMAGE_VARIANTS else None
    run = workshop.run("coupled", variant=variant, task=task, layers=1)
    bundle = workshop.bundle(run, quantize="int4", **LENIENT)
    form = bundle_info(bundle)["report"]["quantized"]
    facts, whole = inspect_file(bundle / "model_q4.onnx"), inspect_file(bundle / "model.onnx")
    assert form["products"] == facts.blockwise_products == (4 if variant == "modernbert" else 6)
    assert (whole.blockwise_products, facts.integer_products, facts.exact) == (0, 0, False)
    assert facts.fused == whole.fused
    assert form["left_in_float"] == []
    float_weights = [
        node.inputs[1].const_value.size
        for node in onnx_ir.load(bundle / "model_q4.onnx").graph
        if node.op_type in ("MatMul", "Gemm") and node.inputs[1].const_value is not None
    ]
    position_terms = {"deberta-v3": 2 * 15 * 32}.get(variant, 0)
    assert sum(float_weights) <= 32 * (32 + 3) + position_terms, "the head's, and no more"
    assert form["size_bytes"] == (bundle / "model_q4.onnx").stat().st_size
    assert form["size_bytes"] < (bundle / "model.onnx").stat().st_size
    last = bundle_info(bundle)["report"]["links"][-1]
    assert last["name"] == "int4, as delivered"
    assert 1e-4 < last["relative"] < INT4


@pytest.mark.parametrize("form", tiered(["int8", "int8-static", "int4"], default=("int8-static",)))
@pytest.mark.parametrize("variant", tiered(["llama", "qwen3"], default=("llama",)))
def test_attention_whose_heads_share_keys_is_fused_around_quantized_products(workshop, variant, form):
    """The quantizer names sizes that it does not know, and fusion took each for a size of its own."""
    run = workshop.run("coupled", variant=variant, layers=1)
    bundle = workshop.bundle(run, quantize=form, **LENIENT)
    (quantized,) = bundle.glob("model_q*.onnx")
    assert inspect_file(quantized).fused["attention"] == inspect_file(bundle / "model.onnx").fused["attention"] == 1


@pytest.mark.slow
def test_blocks_are_as_large_as_asked_for(workshop, run):
    for size in (16, 128):
        graph = onnx_ir.load(workshop.bundle(run, quantize="int4", block_size=size, **LENIENT) / "model_q4.onnx").graph
        nodes = [node for node in graph if node.op_type == "MatMulNBits"]
        assert {node.attributes["block_size"].as_int() for node in nodes} == {size}
        assert {node.attributes["bits"].as_int() for node in nodes} == {4}
        blocks = [node.inputs[1].const_value.shape[1] for node in nodes]
        assert blocks == [-(-node.attributes["K"].as_int() // size) for node in nodes]


@pytest.mark.slow
def test_a_cuda_graph_is_packed_with_float16_scales(workshop, run):
    bundle = workshop.bundle(run, target="ort-cuda", quantize="int4", **LENIENT)
    facts = inspect_file(bundle / "model_q4.onnx")
    assert facts.half
    assert facts.blockwise_products == 6
    assert facts.fused["attention"] == 1
    nodes = [node for node in onnx_ir.load(bundle / "model_q4.onnx").graph if node.op_type == "MatMulNBits"]
    assert {node.inputs[2].const_value.numpy().dtype for node in nodes} == {np.dtype(np.float16)}


@pytest.mark.parametrize("target", ["portable", "tensorrt"])
def test_targets_of_standard_operators_take_no_int4(tmp_path, target):
    with pytest.raises(ValueError, match=rf"quantize: 'int4' is not one of none.*, which --target {target} takes"):
        ExportOptions(ckpt=tmp_path, out=tmp_path / "b", target=target, quantize="int4")


@pytest.mark.parametrize("size", [0, 8, 33, 512])
def test_other_block_sizes_are_refused(tmp_path, size):
    with pytest.raises(ValueError, match=f"block-size: must be one of 16, 32, 64, 128, 256, got {size}"):
        ExportOptions(ckpt=tmp_path, out=tmp_path / "b", quantize="int4", block_size=size)


@pytest.mark.slow
def test_the_runtime_takes_the_form_it_is_asked_for(workshop, run):
    bundle = workshop.bundle(run, quantize="int4", **LENIENT)
    texts = ["a great film", "the play was awful ."]
    whole, packed = (finegates_export.load(bundle, form=form, threads=1).logits(texts) for form in ("float", "int4"))
    assert 0 < np.abs(packed - whole).max() < INT4 * np.abs(whole).max()
    with pytest.raises(InputError, match="has no int8 graph; export it with --quantize int8"):
        finegates_export.load(bundle, form="int8")
    with pytest.raises(ValueError, match="form: 'q4' is not one of float, int8, int4"):
        finegates_export.load(bundle, form="q4")
    assert [link.name for link in verify(run, bundle)][:2] == ["model.onnx", "model_q4.onnx"]


# what stays in float


@pytest.mark.slow
@pytest.mark.parametrize("form", QUANTIZERS)
def test_a_linear_that_silently_stayed_in_float_fails_the_export(run, tmp_path, monkeypatch, form):
    real = {"int8": quantize_dynamic_int8, "int4": quantize_int4}[form]

    def forgetful(source, target, products, exclude, *rest, **options):
        real(source, target, products, [*exclude, products[2]], *rest, **options)

    monkeypatch.setattr(QUANTIZERS[form], forgetful)
    with pytest.raises(FusionError, match=f"made 5 {form} products of 6 linears; nothing was written"):
        exported(run, tmp_path / "b.onnx", form)
    assert list(tmp_path.iterdir()) == []


def spoiling(form, spoiled):
    """A quantizer that ruins the predictions whenever it may touch the linears of the named nodes."""
    real = {"int8": quantize_dynamic_int8, "int4": quantize_int4}[form]

    def quantize(source, target, products, exclude, *rest, **options):
        real(source, target, products, exclude, *rest, **options)
        if set(products[spoiled : spoiled + 1]) - set(exclude):
            graph = onnx.load(target)
            bias = next(value for value in graph.graph.initializer if value.name.endswith("classifier.bias"))
            bias.CopyFrom(onnx.numpy_helper.from_array(np.array([99, -99, 0], np.float32), bias.name))
            onnx.save(graph, target)

    return quantize


@pytest.mark.slow
@pytest.mark.parametrize("form", QUANTIZERS)
def test_a_linear_that_predictions_cannot_do_without_is_left_in_float(run, tmp_path, monkeypatch, form):
    monkeypatch.setattr(QUANTIZERS[form], spoiling(form, spoiled=4))
    ranked = functools.partial(lambda order, *_: order, [UP, *(f"bert.encoder.layer.0.{n}" for n in "abc")])
    monkeypatch.setattr("finegates_export.pipeline.sensitivity.rank_by_sensitivity", ranked)
    report = exported(run, tmp_path / "b", form, min_agreement=0.6)
    assert [left.linear for left in report.quantized.left_in_float] == [UP]
    assert report.quantized.products == 5
    assert f"{UP} stays in float: with it in {form} predictions change too much" in str(report)
    assert [link.name for link in report.links][-2:] == [f"{form}, fused", f"{form}, as delivered"]


@pytest.mark.slow
@pytest.mark.parametrize("form", QUANTIZERS)
def test_nothing_is_written_where_leaving_half_in_float_does_not_help(run, tmp_path, monkeypatch, form):
    monkeypatch.setattr(QUANTIZERS[form], spoiling(form, spoiled=0))
    monkeypatch.setattr(
        "finegates_export.pipeline.sensitivity.rank_by_sensitivity", lambda _model, linears, *_: linears[::-1]
    )
    with pytest.raises(ChainError, match=f"^{form}, fused agrees"):
        exported(run, tmp_path / "b.onnx", form, min_agreement=0.9)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("simulation", [integers(8), blockwise_int4(32)], ids=["int8", "int4"])
def test_the_ranking_follows_what_a_linear_does_to_the_outputs(simulation):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(83, 16), nn.Linear(16, 83), nn.Linear(83, 3))
    with torch.no_grad():
        model[0].weight.copy_(model[0].weight.sign())  # no rounding error, whatever the block
        model[2].weight[:, ::2] *= 1e-3
        model[2].weight[:, 1::2] *= 30
    before = [parameter.clone() for parameter in model.parameters()]

    def forward(batch):
        with torch.no_grad():
            return {"logits": model(torch.from_numpy(batch["x"])).numpy()}

    inputs = [{"x": np.random.default_rng(i).choice([-1, 0, 1], (4, 83)).astype(np.float32)} for i in range(3)]
    ranked = rank_by_sensitivity(model, ["0", "1", "2"], forward, inputs, ("logits",), simulation)
    assert ranked[-1] == "0"
    assert all(map(torch.equal, before, model.parameters())), "the weights are put back"


# what the report tells


@pytest.mark.slow
@pytest.mark.parametrize(("form", "file"), [("int8", "model_quantized.onnx"), ("int4", "model_q4.onnx")])
def test_the_report_has_the_metric_before_and_after_and_the_agreement(workshop, run, form, file):
    bundle = workshop.bundle(run, quantize=form, **LENIENT)
    info = bundle_info(bundle)
    told, links = info["report"]["quantized"], info["report"]["links"]
    whole = next(link for link in links if link["name"] == "ONNX, as delivered")
    assert links[-1]["name"] == f"{form}, as delivered"
    assert (told["float_metric"], told["metric"]) == (whole["metric"], links[-1]["metric"])
    assert told["agreement"] == links[-1]["agreement"]
    assert 0 < told["float_metric"] < 1
    card = (bundle / "README.md").read_text()
    assert f"| 6 linears quantized, none left in float | float | {form} |" in card
    assert f"| accuracy on the rows of the chain below | {told['float_metric']:.4f} | {told['metric']:.4f} |" in card
    assert f"| agreement with the trained model | | {told['agreement']:.2%} |" in card
    assert f"`{file}`" in card
    assert info["graphs"] == ["model.onnx", file]
    assert file in info["files"]


@pytest.mark.slow
def test_the_printed_report_says_the_same(run, tmp_path):
    report = exported(run, tmp_path / "b", "int4")
    form = report.quantized
    told = str(report).splitlines()
    assert "int4: 6 of 6 linears" in told
    assert f"accuracy: {form.float_metric:.4f} in float, {form.metric:.4f} in int4" in told
    assert f"agreement of int4 with the gated model: {form.agreement:.2%}" in told
    assert any(line.startswith(f"  {form.agreed.equal} of 24 predictions are equal: at least ") for line in told)
    assert sum(line.startswith("  recall of ") for line in told) == len(form.agreed.recalls) > 1


@pytest.mark.slow
def test_without_labelled_rows_there_is_no_metric_to_tell(workshop):
    run = workshop.run("coupled", samples=0, layers=1)
    bundle = workshop.bundle(run, quantize="int4", **LENIENT)
    told = bundle_info(bundle)["report"]["quantized"]
    assert told["metric"] is None
    assert told["float_metric"] is None
    card = (bundle / "README.md").read_text()
    assert "on the rows of the chain below |" not in card
    assert "agreement with the trained model" in card


@pytest.mark.slow
def test_without_quantization_there_is_nothing_to_tell(workshop, run):
    bundle = workshop.bundle(run)
    assert bundle_info(bundle)["report"]["quantized"] is None
    assert "linears quantized" not in (bundle / "README.md").read_text()


@pytest.mark.slow
def test_a_file_is_the_quantized_graph_alone(run, tmp_path):
    exported(run, tmp_path / "model.onnx", "int4")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert inspect_file(tmp_path / "model.onnx").blockwise_products == 6
