"""What is delivered for every task: its outputs and nothing else, and the answers that `load` makes of them."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest
import torch

from finegates_export import ExportOptions, export, load
from finegates_export.common.tasks import TASKS
from finegates_export.errors import InputError, UnsupportedError
from finegates_export.runtime.reading import windows_of
from finegates_export.sources.assemble import assemble, base_of
from finegates_export.sources.run_folder import read_run
from tests.export.conftest import bundle_info
from tests.tiers import tiered
from tests.tiny import LORA, labelled_texts, tiny_run, tiny_tokenizer

TEXTS = [text for text, _ in labelled_texts(10)]
TEXT_TASKS = [name for name, task in TASKS.items() if not task.images and not task.generates]
OUTPUTS = {
    "classification": {"logits": ["batch", 3]},
    "multi-label": {"logits": ["batch", 3]},
    "regression": {"logits": ["batch", 1]},
    "token-classification": {"logits": ["batch", "sequence", 3]},
    "question-answering": {"start_logits": ["batch", "sequence"], "end_logits": ["batch", "sequence"]},
    "feature-extraction": {"last_hidden_state": ["batch", "sequence", 32]},
    "embedding": {"last_hidden_state": ["batch", "sequence", 32]},
    "reranking": {"logits": ["batch", 1]},
}


@pytest.fixture(scope="module")
def run_of(workshop):
    home = workshop.base(layers=1)
    return lambda task: workshop.make(f"run-{task}", lambda out: tiny_run(out, home, "coupled", task=task, lora=LORA))


@pytest.mark.parametrize("task", tiered(TEXT_TASKS, fast=1, default=TEXT_TASKS))
def test_a_delivered_graph_returns_the_tasks_outputs_and_no_others(workshop, run_of, task):
    bundle = workshop.bundle(run_of(task))
    session = onnxruntime.InferenceSession(bundle / "model.onnx", providers=["CPUExecutionProvider"])
    assert {value.name: value.shape for value in session.get_outputs()} == OUTPUTS[task]
    info = bundle_info(bundle)
    assert info["task"] == task
    assert (info["pooling"], info["normalize"]) == (("mean", True) if task == "embedding" else (None, False))
    assert all(link["relative"] < 1e-4 for link in info["report"]["links"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata.get("finegates.pooling") == ("mean" if task == "embedding" else None)
    config = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == [f"Bert{TASKS[task].architecture}"]


@pytest.mark.slow
def test_int8_is_held_to_the_tasks_predictions(workshop, run_of):
    """Per-token labels and vectors survive int8 as labels of rows do; the links say how well."""
    for task in ("token-classification", "feature-extraction"):
        bundle = workshop.bundle(run_of(task), quantize="int8", min_agreement=0.6, max_metric_loss=60.0)
        last = bundle_info(bundle)["report"]["links"][-1]
        assert last["name"] == "int8, as delivered"
        assert 0.6 <= last["agreement"] <= 1.0
        assert last["relative"] > 1e-4


@pytest.mark.slow
def test_features_are_the_hidden_states_of_the_texts_own_tokens(workshop, run_of):
    run = read_run(run_of("feature-extraction"))
    gated = assemble(run, base_of(run)).gated
    found = load(workshop.bundle(run.folder), threads=1).predict(TEXTS, batch_size=4)
    for text, features in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            expected = gated(**tiny_tokenizer()(text, return_tensors="pt")).last_hidden_state[0]
        assert features.shape == expected.shape
        np.testing.assert_allclose(features, expected, atol=1e-5)
    assert len({features.shape for features in found}) > 1


@pytest.mark.slow
def test_pooling_in_the_graph_adds_an_output_and_needs_an_embedding(workshop, run_of, tmp_path):
    export(ExportOptions(ckpt=run_of("embedding"), out=tmp_path / "pooled.onnx", pool_in_graph=True, threads=1))
    session = onnxruntime.InferenceSession(tmp_path / "pooled.onnx", providers=["CPUExecutionProvider"])
    assert [(value.name, value.shape) for value in session.get_outputs()] == [
        ("last_hidden_state", ["batch", "sequence", 32]), ("sentence_embedding", ["batch", 32]),
    ]  # fmt: skip
    with pytest.raises(UnsupportedError, match=r"--pool-in-graph applies to embeddings.*feature-extraction"):
        export(ExportOptions(ckpt=run_of("feature-extraction"), out=tmp_path / "no.onnx", pool_in_graph=True))
    assert not (tmp_path / "no.onnx").exists()


@pytest.mark.parametrize("question", [1, 5, 20, 27, 28])
@pytest.mark.parametrize("text", [0, 1, 3, 24, 25, 26, 100])
def test_windows_hold_the_question_and_every_token_of_the_text(question, text):
    encoding = tiny_tokenizer()("so " * question, "film a " * (text // 2) + "the" * (text % 2))[0]
    longest = 32
    windows = windows_of(encoding, longest)
    context = [[i for i, number in enumerate(window.sequence_ids) if number == 1] for window in windows]
    assert all(len(window.ids) <= longest for window in windows)
    assert all(window.ids[1 : 1 + question] == encoding.ids[1 : 1 + question] for window in windows)
    seen = [window.offsets[i] for window, own in zip(windows, context, strict=True) for i in own]
    wanted = [o for o, number in zip(encoding.offsets, encoding.sequence_ids, strict=True) if number == 1]
    assert len(wanted) == text
    assert sorted(set(seen)) == wanted
    room = longest - question - 3
    assert len(windows) == 1 if text <= room else all(len(own) == room for own in context[:-1])
    assert len({tuple(window.offsets) for window in windows}) == len(windows)


def test_a_question_that_fills_the_row_is_refused():
    with pytest.raises(InputError, match="take 32 of 32 tokens and leave no room"):
        windows_of(tiny_tokenizer()("so " * 29, "film")[0], 32)
