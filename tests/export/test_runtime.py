"""A bundle predicts what the trained model predicts, with onnxruntime and tokenizers alone."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import finegates_export
from finegates_export.errors import InputError
from finegates_export.sources.assemble import assemble, base_of
from finegates_export.sources.run_folder import read_run
from tests.tiny import LABELS, LORA, MAX_LENGTH, labelled_texts, tiny_tokenizer

TEXTS = [text for text, _ in labelled_texts(40)]
PAIRS = [("the film was great", "a song"), ("awful", "the play told a story and a song"), ("so", "so")]
INT8 = {"quantize": "int8", "min_agreement": 0.8, "max_metric_loss": 20.0}


@pytest.fixture(scope="module")
def run(workshop):
    return workshop.run("coupled", LORA)


@pytest.fixture(scope="module")
def bundle(workshop, run):
    return workshop.bundle(run, **INT8)


@pytest.fixture(scope="module")
def predictor(bundle):
    return finegates_export.load(bundle, threads=1)


def torch_logits(run, texts):
    """What the gated model says, text by text: no padding at all."""
    gated = assemble(read_run(run), base_of(read_run(run))).gated
    rows = []
    for text in texts:
        given = text if isinstance(text, tuple) else (text,)
        encoded = tiny_tokenizer()(*given, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
        with torch.no_grad():
            rows.append(gated(**encoded).logits[0].double())
    return torch.stack(rows)


@pytest.mark.parametrize("texts", [TEXTS, PAIRS, ["very " * 100, ""]], ids=["texts", "pairs", "too long and empty"])
def test_labels_and_probabilities_are_those_of_the_torch_model(run, predictor, texts):
    expected = torch_logits(run, texts).softmax(-1).numpy()
    found = predictor.predict(texts, batch_size=7)
    assert [p.label for p in found] == [LABELS[i] for i in expected.argmax(-1)]
    assert all(list(p.scores) == list(LABELS[:3]) for p in found)
    np.testing.assert_allclose([list(p.scores.values()) for p in found], expected, atol=1e-5)
    np.testing.assert_allclose([p.score for p in found], expected.max(-1), atol=1e-5)


def test_the_int8_graph_predicts_nearly_the_same(run, bundle):
    logits = torch_logits(run, TEXTS).numpy()
    quantized = finegates_export.load(bundle, form="int8", threads=1)
    found = quantized.logits(TEXTS)
    assert 0.0 < np.abs(found - logits).max() < 0.15 * np.abs(logits).max()
    labels = [p.label for p in quantized.predict(TEXTS)]
    assert np.mean([label == LABELS[i] for label, i in zip(labels, logits.argmax(-1), strict=True)]) >= 0.8


@pytest.mark.slow
def test_a_regression_bundle_predicts_the_score(workshop):
    run = workshop.run("coupled", labels=1, layers=1)
    regression = finegates_export.load(workshop.bundle(run), threads=1)
    found = regression.predict(TEXTS)
    assert all(p.label is None and p.scores == {} for p in found)
    np.testing.assert_allclose([p.score for p in found], torch_logits(run, TEXTS)[:, 0].numpy(), atol=1e-5)
    with pytest.raises(InputError, match="has no int8 graph; export it with --quantize int8"):
        finegates_export.load(workshop.bundle(run), form="int8")


def test_no_texts_give_no_predictions(predictor):
    assert predictor.predict([]) == []
    assert predictor.logits([]).shape == (0, 3)


def test_a_plain_string_is_refused(predictor):
    with pytest.raises(InputError, match=r"takes a list of texts; wrap a single one: predict\(\[text\]\)"):
        predictor.predict("a great film")


@pytest.mark.parametrize("verb", ["generate", "stream"])
def test_a_classifier_writes_no_texts(predictor, verb):
    with pytest.raises(InputError, match="a bundle for classification generates no text; call predict"):
        getattr(predictor, verb)(["a great film"], finegates_export.GenerationOptions())


def test_one_text_is_predicted_alike_in_any_company(predictor):
    alone = [predictor.predict([text])[0] for text in TEXTS[:8]]
    together = predictor.predict(TEXTS[:8])
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(list(one.scores.values()), list(other.scores.values()), atol=1e-5)


def test_several_threads_agree_with_one(predictor):
    chunks = [TEXTS[start : start + 5] for start in range(0, 40, 5)] * 4
    expected = [predictor.predict(chunk) for chunk in chunks]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(predictor.predict, chunks)) == expected


@pytest.mark.parametrize("name", ["model.onnx", "model_quantized.onnx", "tokenizer.json"])
def test_a_missing_or_changed_file_is_named(bundle, tmp_path, name):
    copied = shutil.copytree(bundle, tmp_path / "copied")
    with (copied / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(InputError, match=rf"{name} was changed after the export"):
        finegates_export.load(copied)
    (copied / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        finegates_export.load(copied)


def test_a_file_that_this_user_may_not_read_is_named(bundle, monkeypatch):
    def closed(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("finegates_export.runtime.bundle_files.sha256_file", closed)
    with pytest.raises(InputError, match=rf"{bundle}/\S+ cannot be read: Permission denied; grant read access"):
        finegates_export.load(bundle)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": 3'])
def test_what_is_no_bundle_is_refused(tmp_path, content):
    with pytest.raises(InputError, match=r"is not a bundle: it lacks bundle\.json"):
        finegates_export.load(tmp_path)
    (tmp_path / "bundle.json").write_text(content)
    with pytest.raises(InputError, match="is damaged"):
        finegates_export.load(tmp_path)


SERVING = """
import json, sys
import finegates_export, finegates_export.runtime
light = sorted(set(sys.modules) & {"torch", "transformers", "onnxruntime", "onnx", "peft"})
label = finegates_export.load(sys.argv[1]).predict(["a great film"])[0].label
served = sorted(set(sys.modules) & {"torch", "transformers", "onnx", "peft"})
print(json.dumps([light, served, label]))
"""


def test_importing_and_serving_need_neither_torch_nor_transformers(bundle, predictor):
    done = subprocess.run(
        [sys.executable, "-c", SERVING, bundle], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == [[], [], predictor.predict(["a great film"])[0].label]
