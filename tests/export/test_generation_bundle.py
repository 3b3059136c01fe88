"""The bundle of a decoder: what is in it, what is refused, and that it is the same each time."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import onnx
import pytest
import torch

from finegates_export import ExportOptions, export, verify
from finegates_export.common.cache_layout import CacheLayout, LayerCache
from finegates_export.common.files import sha256_file
from finegates_export.errors import OutputError, UnsupportedError
from finegates_export.graphs import saving
from finegates_export.graphs.inspect import inspect_file
from finegates_export.pipeline.bundle.genai_files import genai_refusal
from finegates_export.verification.cached_forms import cached_onnx_form
from finegates_export.verification.link import Tolerances
from finegates_export.verification.prompts import left_padded, make_prompts
from tests.export.conftest import bundle_info
from tests.tiers import tiered
from tests.tiny import tiny_run
from tests.tiny_models import stored_model

LENIENT = {"min_agreement": 0.5, "max_metric_loss": 100.0}
"""A tiny random model decides by a hair."""


@pytest.fixture(scope="module")
def run(workshop):
    return workshop.run("coupled", task="text-generation", variant="llama", generator=True)


@pytest.fixture(scope="module")
def bundle(workshop, run):
    return workshop.bundle(run, quantize="int8", **LENIENT)


@pytest.mark.slow
def test_it_says_what_the_cache_looks_like(bundle):
    info = bundle_info(bundle)
    form = cached_onnx_form(bundle / "model.onnx", threads=1)
    assert info["cache"] == form.layout.to_json()
    assert info["cache"]["cached"][0] == {"layer": 0, "heads": 2, "key_width": 6, "value_width": 6}
    assert info["vocabulary"] == 64
    assert info["labels"] == []


@pytest.mark.slow
def test_its_files_are_those_that_clients_look_for(bundle):
    assert {"tokenizer.json", "generation_config.json", "genai_config.json", "config.json"} <= bundle_info(bundle)[
        "files"
    ].keys()
    assert json.loads((bundle / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    assert json.loads((bundle / "generation_config.json").read_text())["eos_token_id"] == 3
    genai = json.loads((bundle / "genai_config.json").read_text())["model"]
    assert (genai["eos_token_id"], genai["decoder"]["head_size"], genai["decoder"]["num_key_value_heads"]) == (3, 6, 2)
    names = genai["decoder"]["inputs"]
    form = cached_onnx_form(bundle / "model.onnx", threads=1)
    assert names["past_key_names"] % 1 in form.layout.past_names


@pytest.mark.slow
def test_the_example_of_the_model_card_runs(bundle, capsys):
    card = (bundle / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert "this/folder" in example
    exec(compile(example.replace("this/folder", str(bundle)), "README.md", "exec"), {})  # noqa: S102  # our own page
    assert capsys.readouterr().out.startswith("[Generation(text=")


@pytest.mark.parametrize(
    ("layers", "why"),
    [
        ([(2, 6, 6), (1, 6, 6)], None),
        ([(2, 6, 6), (2, 4, 4)], None),
        ([(2, 6, 6)], None),
        ([(2, 6, 6), (2, 6, 8)], "layer 1 has keys of 6 and values of 8 dims"),
        ([], "no layer has attention left"),
    ],
)
def test_genai_is_told_of_layers_that_it_can_describe(layers, why):
    layout = CacheLayout(2, tuple(LayerCache(number, *one) for number, one in enumerate(layers)))
    told = genai_refusal(layout)
    assert told is None if why is None else why in (told or "")


@pytest.mark.slow
def test_every_link_holds_and_the_text_is_the_same(bundle):
    links = bundle_info(bundle)["report"]["links"]
    names = [link["name"] for link in links]
    assert names == [
        "folded", "shrunk torch", "ONNX, unoptimized", "ONNX, ort-cpu", "ONNX, as delivered",
        "texts, as delivered", "int8, fused", "int8, as delivered",
    ]  # fmt: skip
    assert all(link["relative"] < 1e-5 and link["greedy"] == 1 for link in links[:5])
    assert 1e-4 < links[-1]["relative"] < 0.3
    assert all(link["metric"] is not None for link in links if not link["name"].startswith("texts"))
    assert bundle_info(bundle)["report"]["metric"] == "perplexity"
    assert all(link["metric"] > 1 for link in links if link["metric"])


@pytest.mark.slow
def test_it_is_verified_again_at_any_time(run, bundle):
    links = verify(run, bundle, tolerances=Tolerances(agreement=0.5, metric_points=100), threads=1)
    assert [link.exact for link in links] == [True, False, True]
    assert links[2].name == "texts, as delivered"
    assert links[0].relative < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "quantize", "file"), [("ort-cpu", "int4", "model_q4.onnx"), ("portable", "int8", "model_quantized.onnx")]
)
def test_weights_in_4_bits_and_other_targets(workshop, run, target, quantize, file):
    made = workshop.bundle(run, target=target, quantize=quantize, **LENIENT)
    facts = inspect_file(made / file)
    linears = len(bundle_info(made)["report"]["plan"]["layers"]) * 7
    assert (facts.blockwise_products if quantize == "int4" else facts.integer_products) == linears
    assert facts.fused["attention"] == (2 if target == "ort-cpu" else 0)
    last = bundle_info(made)["report"]["links"][-1]
    assert 1e-4 < last["relative"] < (0.6 if quantize == "int4" else 0.3)


@pytest.mark.exhaustive
def test_the_same_run_gives_the_same_bytes(run, bundle, tmp_path):
    export(ExportOptions(ckpt=run, out=tmp_path / "again.onnx", threads=1))
    assert (tmp_path / "again.onnx").read_bytes() == (bundle / "model.onnx").read_bytes()


@pytest.mark.exhaustive
def test_many_weights_lie_beside_the_graph(run, bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "INSIDE_LIMIT", 10_000)
    made = tmp_path / "bundle"
    export(ExportOptions(ckpt=run, out=made, threads=1))
    assert (made / "model.onnx").stat().st_size < (made / "model.onnx.data").stat().st_size
    assert bundle_info(made)["files"]["model.onnx.data"] == sha256_file(made / "model.onnx.data")
    inputs = left_padded([np.arange(5, 12), np.arange(3)])
    one, other = (cached_onnx_form(folder / "model.onnx", threads=1)(inputs) for folder in (made, bundle))
    np.testing.assert_array_equal(one["logits"], other["logits"])
    with pytest.raises(OutputError, match="do not fit one file; use --out FOLDER/"):
        export(ExportOptions(ckpt=run, out=tmp_path / "single.onnx", threads=1))
    assert not (tmp_path / "single.onnx").exists()


@pytest.mark.parametrize("target", ["web", "tensorrt", "ort-cuda", "triton"])
def test_targets_without_a_cache_are_refused_by_name(run, tmp_path, target):
    with pytest.raises(UnsupportedError, match=f"--target {target} .* use --target ort-cpu or") as refused:
        export(ExportOptions(ckpt=run, out=tmp_path / "out", target=target, quantize="none"))
    assert "\n" not in str(refused.value)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("options", "why"),
    [({"opset": 20}, "operators of opset 23"), ({"quantize": "int8-static"}, "after a cache")],
)
def test_so_is_what_does_not_go_with_a_cache(run, tmp_path, options, why):
    with pytest.raises(UnsupportedError, match=why):
        export(ExportOptions(ckpt=run, out=tmp_path / "out", **options))


def test_real_rows_are_padded_on_the_left_and_logits_are_counted():
    lengths = torch.tensor([3, 9, 5])
    mask = (torch.arange(9) < lengths[:, None]).long()
    samples = {"input_ids": torch.arange(27).reshape(3, 9), "attention_mask": mask}
    real = [batch for batch in make_prompts(samples, 64, 32) if batch.real]
    assert [batch.inputs["attention_mask"].sum(1).tolist() for batch in real] == [[3, 5, 9]]
    np.testing.assert_array_equal(real[0].inputs["input_ids"][0], [0] * 6 + [0, 1, 2])
    wide = [batch for batch in make_prompts(samples, 1 << 21, 32) if batch.real]
    assert [batch.rows for batch in wide] == [1, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("quantize", tiered(["none", "int8", "int4"], default=("int8",)))
def test_a_tied_table_lies_in_every_file_once(workshop, tmp_path, quantize):
    """Large enough that nothing folds what turns it, and that onnxruntime's quantizer turns what it finds."""
    model = stored_model("llama", generator=True, layers=1)
    model.resize_token_embeddings(3000)
    base = shutil.copytree(workshop.base(variant="llama", generator=True), tmp_path / "base")
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(base)
    run = tiny_run(tmp_path / "run", base, "coupled", task="text-generation")
    export(ExportOptions(ckpt=run, out=tmp_path / "out", quantize=quantize, threads=1, int8_linears="all", **LENIENT))
    for graph in bundle_info(tmp_path / "out")["graphs"]:
        tensors = onnx.load(tmp_path / "out" / graph).graph.initializer
        assert [max(tensor.dims, default=0) for tensor in tensors].count(3000) == 1, graph
