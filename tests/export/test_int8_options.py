"""Every quantized form over equal and unequal widths, bits of int8 weights, and a form that is refused."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import onnx_ir
import pytest

from finegates_export import ExportOptions, export
from finegates_export.cli import main
from finegates_export.errors import ChainError, FormRefusedError
from finegates_export.graphs.inspect import inspect_file
from finegates_export.graphs.passes.unpack_attention import UnpackAttention
from finegates_export.graphs.quantization.int8 import quantize_dynamic_int8, quantize_static_int8
from finegates_export.graphs.targets import TARGETS
from finegates_export.pipeline.quantized_form import QuantizedForm
from tests.export.conftest import bundle_info
from tests.export.test_quantized import LENIENT, product_graph, spoiling
from tests.tiers import tiered
from tests.tiny_models import VARIANTS

WIDTHS = {"equal": {"qk": 0.0, "vo": 0.0, "ffn": 0.4, "heads": 0.25}, "unequal": None}
"""Closed shares of a run, by how wide its keys and values are."""
FORMS = [(name, form) for name, target in TARGETS.items() for form in target.INTEGERS]


def run_of(workshop, widths, variant="bert"):
    return workshop.run("coupled", layers=1, variant=variant, gates=WIDTHS[widths])


def wide(bundle):
    """Whether the layer's keys are as wide as its values."""
    attention = bundle_info(bundle)["report"]["plan"]["layers"][0]["attention"]
    return len(attention["qk"][0]) == len(attention["vo"][0])


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize(
    ("target", "form"),
    tiered(FORMS, fast=[("ort-cpu", "int8-static")], default=[("portable", "int8-static")]),
)
def test_every_linear_is_quantized_whatever_the_widths(workshop, target, form, widths):
    bundle = workshop.bundle(run_of(workshop, widths), target=target, quantize=form, **LENIENT)
    assert wide(bundle) == (widths == "equal")
    (file,) = [bundle / name for name in bundle_info(bundle)["graphs"][1:]]
    facts = inspect_file(file)
    assert (facts.blockwise_products if form == "int4" else facts.integer_products) == 6
    assert facts.fused["attention"] == inspect_file(bundle / bundle_info(bundle)["graph"]).fused["attention"]


@pytest.mark.parametrize("variant", tiered([one for one in VARIANTS if one not in ("gemma",)], default=("modernbert",)))
def test_every_family_takes_static_ranges_over_equal_widths(workshop, variant):
    if variant in ("vit", "deit"):
        pytest.skip("its rows are images; tried with texts alone")
    bundle = workshop.bundle(run_of(workshop, "equal", variant), quantize="int8-static", **LENIENT)
    quantized = bundle_info(bundle)["report"]["quantized"]
    assert quantized["left_in_float"] == []
    assert inspect_file(bundle / "model_quantized.onnx").integer_products == quantized["products"] > 0


@pytest.mark.exhaustive
def test_packed_products_are_told_where_they_stay_packed(workshop, tmp_path, monkeypatch):
    monkeypatch.setattr(UnpackAttention, "call", lambda _self, model: onnx_ir.passes.PassResult(model, False))
    monkeypatch.setattr(UnpackAttention, "ensures", lambda _self, _model: None)
    with pytest.raises(FormRefusedError, match="made 3 int8 products of 6 linears"):
        run = run_of(workshop, "equal")
        export(ExportOptions(ckpt=run, out=tmp_path / "b", quantize="int8-static", threads=1, **LENIENT))
    assert (tmp_path / "b" / "model.onnx").is_file()


# bits


def largest(path):
    """The largest magnitude of an integer weight."""
    values = [value.const_value for value in onnx_ir.load(path).graph.initializers.values()]
    return max(np.abs(one.numpy().astype(int)).max() for one in values if one.dtype.name == "INT8" and one.size > 16)


@pytest.mark.parametrize(("bits", "most"), [(7, 64), (8, 127)])
def test_weights_have_the_bits_that_are_asked_for(tmp_path, bits, most):
    weight = np.random.default_rng(0).standard_normal((32, 48)).astype(np.float32)
    plain, dynamic, static = (tmp_path / f"{name}.onnx" for name in ("plain", "dynamic", "static"))
    product_graph(plain, weight)
    quantize_dynamic_int8(plain, dynamic, ["product"], bits=bits)
    quantize_static_int8(plain, static, ["product"], [{"x": np.ones((1, 1, 32), np.float32)}], bits=bits)
    assert most - 2 <= largest(dynamic) <= most
    assert most - 2 <= largest(static) <= most


@pytest.mark.parametrize(
    ("options", "bits"),
    [
        ({"quantize": "int8"}, 7),
        ({"quantize": "int8-static", "target": "portable"}, 7),
        ({"quantize": "int8", "target": "web"}, 7),
        ({"quantize": "int8", "target": "triton"}, 7),
        ({"quantize": "int8-static", "target": "tensorrt"}, 8),
        ({"quantize": "int8", "int8_bits": 8}, 8),
        ({"quantize": "int4", "quantize_head": True, "int8_bits": 8}, 8),
    ],
)
def test_a_target_has_the_bits_that_its_processors_add_up(tmp_path, options, bits):
    assert ExportOptions(ckpt=tmp_path, out=tmp_path / "b", **options).weight_bits == bits


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantize": "int8", "int8_bits": 6}, "int8-bits: must be one of 7, 8, got 6"),
        ({"quantize": "int4", "int8_bits": 7}, "int8-bits: applies to int8 weights; give --quantize int8"),
        ({"int8_bits": 8}, "int8-bits: applies to int8 weights; give --quantize int8"),
    ],
)
def test_other_bits_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        ExportOptions(ckpt=tmp_path, out=tmp_path / "b", **options)


def test_the_figures_hold_where_the_bits_say():
    form = QuantizedForm("int8", 6, (), 100, None, None, None, weight_bits=7)
    assert "int8 weights of 7 bits: the figures hold on every processor" in form.lines()
    assert "on others sums saturate" in "".join(replace(form, weight_bits=8).lines())
    assert "bits" not in "".join(replace(form, weight_bits=None).lines())


@pytest.mark.exhaustive
def test_report_and_card_say_where_the_figures_hold(workshop):
    run = run_of(workshop, "unequal")
    seven, eight = (workshop.bundle(run, quantize="int8", int8_bits=bits, **LENIENT) for bits in (7, 8))
    assert [bundle_info(one)["report"]["quantized"]["weight_bits"] for one in (seven, eight)] == [7, 8]
    assert "int8 weights have 7 bits; the figures hold on every processor." in (seven / "README.md").read_text()
    assert "on others sums saturate" in (eight / "README.md").read_text()


# a refused form


@pytest.fixture
def spoiled(monkeypatch):
    monkeypatch.setattr("finegates_export.graphs.quantization.int8.quantize_dynamic_int8", spoiling("int8", spoiled=0))
    monkeypatch.setattr(
        "finegates_export.pipeline.sensitivity.rank_by_sensitivity", lambda _model, linears, *_: linears[::-1]
    )


def test_the_float_bundle_is_delivered_though_its_form_is_refused(workshop, tmp_path, spoiled, monkeypatch, capsys):
    run, out = run_of(workshop, "unequal"), tmp_path / "b"
    words = ["--ckpt", str(run), "--out", str(out), "--quantize", "int8", "--int8-linears", "all", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["finegates-export", *words, "--min-agreement", "0.9"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 3
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"finegates-export: {out}: int8, fused agrees")
    assert "the float graph was written alone" in line
    record = bundle_info(out)
    assert record["graphs"] == ["model.onnx"]
    assert record["report"]["quantized"] is None
    assert "less than 90.00%" in record["report"]["refused"]
    assert [link["name"] for link in record["report"]["links"] if link["name"].startswith("int8")] == []
    assert not (out / "model_quantized.onnx").exists()


@pytest.mark.slow
def test_a_file_of_a_refused_form_is_not_written(workshop, tmp_path, spoiled):
    options = {"quantize": "int8", "int8_linears": "all", "min_agreement": 0.9, "threads": 1}
    with pytest.raises(ChainError, match="nothing was written"):
        export(ExportOptions(ckpt=run_of(workshop, "unequal"), out=tmp_path / "b.onnx", **options))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.exhaustive
def test_many_runs_say_that_only_a_form_was_refused(workshop, tmp_path, spoiled, monkeypatch, capsys):
    runs = [str(run_of(workshop, "unequal")), str(run_of(workshop, "equal"))]
    words = ["--ckpt", *runs, "--out", str(tmp_path / "b"), "--quantize", "int8", "--int8-linears", "all"]
    monkeypatch.setattr(sys, "argv", ["finegates-export", *words, "--min-agreement", "0.9", "--threads", "1", "--json"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 3
    told = json.loads(capsys.readouterr().out)
    assert all("the float graph was written alone" in one["error"] for one in told)
    assert len(list(tmp_path.glob("b/*/model.onnx"))) == 2
