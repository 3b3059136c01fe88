"""A bundle for OpenVINO: attention as one operator in every family, proven in both precisions, loaded and chosen."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections import Counter

import numpy as np
import pytest

from finegates_export import ExportOptions, export, load, verify
from finegates_export.errors import ChainError, FusionError, InputError, MissingExtraError, UnsupportedError
from finegates_export.runtime import fastest
from finegates_export.runtime.openvino_session import OpenVinoOptions, has_bfloat16, open_openvino
from tests.export.conftest import bundle_info
from tests.tiers import tiered
from tests.tiny import LORA, labelled_texts
from tests.tiny_models import ENCODER_FAMILIES, IMAGE_VARIANTS

openvino = pytest.importorskip("openvino")

pytestmark = pytest.mark.slow
TEXTS = [text for text, _ in labelled_texts(10)]
IR = "openvino_model.xml"
BFLOAT16 = 5e-2


@pytest.fixture(scope="module")
def run(workshop):
    return workshop.run("coupled", lora=LORA, layers=1)


@pytest.fixture(scope="module")
def bundle(workshop, run):
    return workshop.bundle(run, target="openvino")


@pytest.fixture
def copied(bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "bundle")


def operators(ir):
    model = openvino.Core().read_model(ir)
    return Counter(operator.get_type_name() for operator in model.get_ops())


@pytest.mark.parametrize("variant", tiered(ENCODER_FAMILIES, default=("mpnet", "deberta-v3", "modernbert")))
def test_attention_is_one_operator_a_layer_in_every_family(workshop, variant):
    task = "image-classification" if variant in IMAGE_VARIANTS else None
    made = workshop.bundle(workshop.run("coupled", variant=variant, task=task), target="openvino", min_agreement=0.5)
    found = operators(made / IR)
    assert (found["ScaledDotProductAttention"], found["Softmax"]) == (2, 0)
    links = {link["name"]: link for link in bundle_info(made)["report"]["links"]}
    assert links["OpenVINO, float32"]["exact"]
    assert links["OpenVINO, float32"]["relative"] < 1e-4


def test_a_bundle_says_what_it_was_proven_in(bundle):
    told = bundle_info(bundle)
    precisions = ["float32", *(["bfloat16"] if has_bfloat16() else [])]
    assert told["openvino"] == {"graph": IR, "weights": "float32", "precisions": precisions}
    assert {IR, "openvino_model.bin"} < set(told["files"])


def test_the_same_run_gives_the_same_bytes(run, bundle, tmp_path):
    export(ExportOptions(ckpt=run, out=tmp_path / "again", target="openvino", threads=1))
    for name in (IR, "openvino_model.bin", "model.onnx"):
        assert (tmp_path / "again" / name).read_bytes() == (bundle / name).read_bytes()


def test_weights_in_float16_halve_the_file_and_are_held_to_predictions(workshop, run, bundle):
    small = workshop.bundle(run, target="openvino", openvino_weights="float16", min_agreement=0.5)
    sizes = [(one / "openvino_model.bin").stat().st_size for one in (small, bundle)]
    assert sizes[0] < 0.6 * sizes[1]
    link = next(one for one in bundle_info(small)["report"]["links"] if one["name"] == "OpenVINO, float32")
    assert not link["exact"]


def test_both_runtimes_answer_alike(bundle):
    plain = load(bundle, runtime="onnxruntime", threads=1).logits(TEXTS)
    own = load(bundle, precision="float32", threads=1)
    assert own.providers == ["OpenVINO"] and own.runtime.endswith("in float32")
    assert np.abs(own.logits(TEXTS) - plain).max() < 1e-4
    assert [one.label for one in own.predict(TEXTS)] == [one.label for one in load(bundle, threads=1).predict(TEXTS)]


@pytest.mark.skipif(not has_bfloat16(), reason="needs a processor that computes in bfloat16")
def test_bfloat16_is_taken_where_it_was_proven_and_differs_by_rounding(bundle, copied):
    rounded = load(bundle, threads=1)
    exact = load(bundle, precision="float32", threads=1).logits(TEXTS)
    assert rounded.runtime.endswith("in bfloat16")
    assert 0 < np.abs(rounded.logits(TEXTS) - exact).max() < BFLOAT16 * np.abs(exact).max()
    told = bundle_info(copied)
    told["openvino"]["precisions"] = ["float32"]
    (copied / "bundle.json").write_text(json.dumps(told))
    assert load(copied, threads=1).runtime.endswith("in float32")
    with pytest.raises(UnsupportedError, match=r"was proven in float32, not in bfloat16; export on a processor"):
        load(copied, precision="bfloat16")


def test_many_threads_share_one_model(bundle):
    predictor = load(bundle, precision="float32", threads=1, streams=1)
    expected = [predictor.logits([text]) for text in TEXTS]
    found = [None] * len(TEXTS)

    def ask(number):
        found[number] = predictor.logits([TEXTS[number]])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(TEXTS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def test_auto_takes_the_fastest_says_why_and_measures_once(bundle, monkeypatch, tmp_path):
    monkeypatch.setenv("FINEGATES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fastest, "SECONDS", 0.0)
    taken = load(bundle, runtime="auto", threads=1)
    (kept,) = (tmp_path / "cache" / "fastest").iterdir()
    times = json.loads(kept.read_text())["milliseconds"]
    assert len(times) == 2 and taken.runtime.startswith(min(times, key=times.get))
    slow = {name: 1e6 if "OpenVINO" in name else 1.0 for name in times}
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "milliseconds": slow}))
    assert load(bundle, runtime="auto", threads=1).runtime.startswith("onnxruntime"), "what was measured is kept"
    kept.write_text("damaged")
    assert load(bundle, runtime="auto", threads=1).runtime


def test_verify_runs_the_ir_too_and_rejects_another(run, bundle, copied):
    names = [link.name for link in verify(run, bundle, threads=1)]
    assert f"{IR}, float32" in names
    weights = bytearray((copied / "openvino_model.bin").read_bytes())
    for sign in range(3, 64 * 32 * 4, 4):  # of the table of words, which comes first
        weights[sign] ^= 0x80
    (copied / "openvino_model.bin").write_bytes(bytes(weights))
    with pytest.raises(InputError, match=r"openvino_model\.bin was changed after the export"):
        load(copied)
    from finegates_export.common.files import sha256_file

    told = bundle_info(copied)
    told["files"]["openvino_model.bin"] = sha256_file(copied / "openvino_model.bin")
    (copied / "bundle.json").write_text(json.dumps(told))
    with pytest.raises(ChainError, match=rf"{IR}, float32 "):
        verify(run, copied, threads=1)


def test_fewer_operators_of_attention_fail_the_export(workshop, run, tmp_path):
    from finegates_export.graphs.openvino_ir import write_ir

    spelled_out = workshop.bundle(run, target="portable") / "model.onnx"
    with pytest.raises(FusionError, match=r"OpenVINO reads 0 attention operators of 1 layers, and 1 softmax"):
        write_ir(spelled_out, tmp_path, attention_layers=1)


def test_what_cannot_be_is_refused_by_name(workshop, run, bundle, tmp_path, monkeypatch):
    plain = workshop.bundle(run)
    with pytest.raises(UnsupportedError, match=r"has no float graph for OpenVINO; export it with --target openvino"):
        load(plain, runtime="openvino")
    assert load(plain, runtime="auto").runtime.startswith("onnxruntime"), "the only one there is"
    with pytest.raises(ValueError, match=r"^runtime: 'tvm' is not one of onnxruntime, openvino, auto"):
        load(plain, runtime="tvm")
    with pytest.raises(ValueError, match=r"^streams: must be positive, got 0"):
        load(bundle, streams=0)
    for wrong, told in (
        ({"out": tmp_path / "model.onnx"}, "out"),
        ({"opset": 20}, "opset"),
        ({"quantize": "int8"}, "quantize"),
    ):
        with pytest.raises(ValueError, match=f"^{told}: "):
            ExportOptions(**{"ckpt": run, "out": tmp_path / "b", "target": "openvino", **wrong})
    with pytest.raises(ValueError, match=r"^openvino-weights: applies only to --target openvino"):
        ExportOptions(ckpt=run, out=tmp_path / "b", openvino_weights="float16")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'finegates-export\[openvino\]'"):
        open_openvino(bundle / IR, OpenVinoOptions())
