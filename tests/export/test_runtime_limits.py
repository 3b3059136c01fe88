"""What the runtime is told, what it refuses, and in which words; many threads on one predictor."""

from __future__ import annotations

import json
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import finegates_export
from finegates_export.common.files import sha256_file
from finegates_export.errors import InputError, UnsupportedError
from finegates_export.runtime.batching import BATCHES_TOGETHER
from finegates_export.runtime.session import SessionOptions, open_session
from tests.tiers import tiered
from tests.tiny import LORA, MAX_LENGTH, labelled_texts, tiny_tokenizer
from tests.tiny_models import IMAGE

TEXTS = [text for text, _ in labelled_texts(40)]
MEGABYTE = 1 << 20
THREADS = 16


class Table(list):
    """A data frame, for what is read of one: as a list it has the names of its columns."""

    columns = ("text",)


@pytest.fixture(scope="module")
def run(workshop):
    return workshop.run("coupled", LORA)


@pytest.fixture(scope="module")
def bundle(workshop, run):
    return workshop.bundle(run)


@pytest.fixture(scope="module")
def predictor(bundle):
    return finegates_export.load(bundle, threads=1)


def changed(bundle, folder, **files):
    """A copy of a bundle with other files, by their stem, whose hashes are right."""
    copied = shutil.copytree(bundle, folder)
    info = json.loads((copied / "bundle.json").read_text())
    for stem, content in files.items():
        (name,) = (name for name in info["files"] if name.partition(".")[0] == stem and not name.endswith(".data"))
        (copied / name).write_bytes(content)
        info["files"][name] = sha256_file(copied / name)
    (copied / "bundle.json").write_text(json.dumps(info))
    return copied


def scores_of(predictions):
    return [list(one.scores.values()) for one in predictions]


def test_many_threads_with_mixed_texts_get_their_own_answers(bundle):
    shared = finegates_export.load(bundle, threads=2)
    generator = random.Random(5)  # noqa: S311  # texts, not keys
    texts = [*TEXTS, "", "very " * 100, "Ünïcode 漢字", *TEXTS]
    calls = [generator.sample(range(len(texts)), generator.randint(1, 20)) for _ in range(120)]
    alone = scores_of(shared.predict(texts, batch_size=1))
    assert np.ptp(alone, axis=0).max() > 1e-3
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(lambda call: shared.predict([texts[i] for i in call], batch_size=4), calls))
    for call, answer in zip(calls, answers, strict=True):
        np.testing.assert_allclose(scores_of(answer), [alone[i] for i in call], atol=1e-5)


def test_settings_reach_onnxruntime(bundle, monkeypatch):
    seen = {}
    real = onnxruntime.InferenceSession

    def watched(graph, settings, providers):
        seen.update(
            threads=settings.intra_op_num_threads,
            arena=(settings.enable_cpu_mem_arena, settings.enable_mem_pattern),
            spinning=settings.get_session_config_entry("session.intra_op.allow_spinning"),
            providers=providers,
        )
        return real(graph, settings, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    quiet = finegates_export.load(bundle, threads=2, spinning=False, arena=False)
    assert seen == {"threads": 2, "arena": (False, False), "spinning": "0", "providers": ["CPUExecutionProvider"]}
    finegates_export.load(bundle)
    assert seen == {"threads": 0, "arena": (True, True), "spinning": "1", "providers": ["CPUExecutionProvider"]}
    assert quiet.predict(TEXTS) == finegates_export.load(bundle, threads=2).predict(TEXTS)


@pytest.mark.parametrize(
    "settings",
    [
        {"threads": 0}, {"threads": -1}, {"threads": "two"}, {"provider": ""}, {"provider": None},
        {"provider": ["CPUExecutionProvider"]},
    ],
)  # fmt: skip
def test_impossible_settings_are_named(bundle, settings):
    with pytest.raises(ValueError, match=rf"{next(iter(settings))}: must be"):
        finegates_export.load(bundle, **settings)


def test_the_provider_that_runs_is_named_and_one_that_is_not_there_refused(bundle, predictor):
    assert predictor.providers == ["CPUExecutionProvider"]
    with pytest.raises(
        UnsupportedError, match=r"lacks TensorrtExecutionProvider; it has .*CPUExecutionProvider.*\[gpu"
    ):
        finegates_export.load(bundle, provider="tensorrt")
    with pytest.raises(UnsupportedError, match="lacks MoonExecutionProvider"):
        finegates_export.load(bundle, provider="MoonExecutionProvider")


def test_a_provider_that_does_not_start_is_refused_instead_of_the_processor_taken(bundle, monkeypatch):
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession",
        lambda graph, settings, providers: real(graph, settings, providers=["CPUExecutionProvider"]),
    )  # fmt: skip
    with pytest.raises(UnsupportedError, match="CUDAExecutionProvider did not start on this machine"):
        finegates_export.load(bundle, provider="cuda")


@pytest.mark.parametrize("text", ["a lovely film " * (MEGABYTE // 14), "x" * MEGABYTE], ids=["words", "one word"])
def test_a_megabyte_is_cut_where_the_run_cut(predictor, text):
    short = " ".join(text.split()[:MAX_LENGTH])
    found, expected = predictor.predict([text])[0], predictor.predict([short])[0]
    np.testing.assert_allclose(list(found.scores.values()), list(expected.scores.values()), atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ([3], "input 0: takes a text or a pair of texts, got int 3"),
        (["fine", None], "input 1: takes a text or a pair of texts, got NoneType None"),
        ([b"bytes"], "input 0: takes a text or a pair of texts, got bytes"),
        ([("a", "b", "c")], "input 0: takes a text or a pair"),
        ([("a", 1)], "input 0: takes a text or a pair"),
        ([["alone"]], "input 0: takes a text or a pair"),
        ([{"text": "a"}], "input 0: takes a text or a pair of texts, got dict"),
        ([np.array("a film")], "input 0: takes a text or a pair of texts, got ndarray"),
        (["\ud800 half"], "input 0 is not valid Unicode: half a surrogate pair at character 0"),
        ([("a", "b\udfff")], "input 0 is not valid Unicode: half a surrogate pair at character 1"),
        (b"bytes", "wrap a single one"),
        (7, "takes a list of inputs, got int"),
        ({"text": "a"}, "takes a list of inputs, got dict"),
        (None, "takes a list of inputs, got NoneType"),
        (Table(), r"takes a list, got Table; pass one of its columns: table\['text'\]"),
    ],
)
def test_inputs_of_a_wrong_type_are_told_by_their_place(predictor, inputs, told):
    with pytest.raises(InputError, match=told):
        predictor.predict(inputs)
    with pytest.raises(InputError, match=told):
        predictor.logits(inputs)


@pytest.mark.slow
@pytest.mark.parametrize("sort", [True, False])
def test_the_place_is_that_in_the_whole_list_of_many_inputs(predictor, workshop, sort):
    texts = ["so"] * (BATCHES_TOGETHER + 5)
    with pytest.raises(InputError, match=f"input {BATCHES_TOGETHER + 3}: takes a text"):
        predictor.predict([*texts[:-2], None, "so"], batch_size=1, sort=sort)
    asked = finegates_export.load(
        workshop.bundle(workshop.run("coupled", task="question-answering", layers=1)), threads=1
    )
    long = [*[("so", "a film")] * (BATCHES_TOGETHER + 3), ("so " * MAX_LENGTH, "a film")]
    with pytest.raises(InputError, match=rf"input {BATCHES_TOGETHER + 3}: the question and special tokens take \d+ of"):
        asked.predict(long, batch_size=1, sort=sort)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("cat.jpg", "an image must be an array of floats, got str 'cat.jpg'"),
        (Path("cat.jpg"), r"an image must be an array of floats, got \w*Path"),
        (b"\x89PNG", "an image must be an array of floats, got bytes"),
        ({"pixel_values": 1}, "an image must be an array of floats, got dict"),
        ([[1, 2], [3]], "an image must be an array of floats, got list"),
        (torch.zeros(3, IMAGE, IMAGE, requires_grad=True), "an image must be an array of floats, got Tensor"),
        (None, r"the image has shape \(\)"),
        (np.zeros((IMAGE, IMAGE, 3)), rf"the image has shape \({IMAGE}, {IMAGE}, 3\)"),
    ],
    ids=["name", "path", "bytes", "dict", "ragged", "gradient", "none", "channels last"],
)
def test_so_is_what_is_no_image(workshop, image, told):
    made = workshop.bundle(workshop.run("coupled", variant="vit", task="image-classification", layers=1))
    images = finegates_export.load(made, threads=1)
    whole = np.zeros((3, IMAGE, IMAGE), np.float32)
    takes = rf"the model takes \(3, {IMAGE}, {IMAGE}\) \(channels, height, width\); prepare it"
    for ask in (lambda given: images.predict(given, batch_size=1), images.logits):
        with pytest.raises(InputError, match=f"input 1: {told}.*; {takes}|input 1: {told}, but {takes}") as caught:
            ask([whole, image])
        assert "\n" not in str(caught.value)


def test_a_message_does_not_repeat_a_megabyte(predictor):
    with pytest.raises(InputError) as caught:
        predictor.predict([("x" * MEGABYTE,)])
    assert len(str(caught.value)) < 200


def test_anything_that_yields_texts_is_taken(predictor):
    expected = predictor.predict(TEXTS[:3])
    for given in (tuple(TEXTS[:3]), np.array(TEXTS[:3]), iter(TEXTS[:3])):
        assert predictor.predict(given) == expected


def test_a_tokenizer_of_another_vocabulary_is_refused(bundle, run, tmp_path):
    other = tiny_tokenizer()
    assert json.loads((bundle / "bundle.json").read_text())["vocabulary"] >= len(other)
    other.add_tokens([f"word{number}" for number in range(200)])
    other.save_pretrained(tmp_path / "other")
    copied = changed(bundle, tmp_path / "copied", tokenizer=(tmp_path / "other" / "tokenizer.json").read_bytes())
    with pytest.raises(InputError, match=r"has ids up to \d+, but the graph has \d+ embeddings"):
        finegates_export.load(copied)
    same = changed(bundle, tmp_path / "same", tokenizer=(run / "tokenizer.json").read_bytes())
    assert finegates_export.load(same).labels


@pytest.mark.parametrize("variant", tiered(["bert", "gpt2", "qwen3"], fast=1, default=3))
@pytest.mark.parametrize(
    "task",
    tiered(
        ["classification", "multi-label", "embedding", "feature-extraction"], fast=1, default=("feature-extraction",)
    ),
)
def test_a_text_without_a_token_has_the_same_answer_in_any_company(workshop, tmp_path, task, variant):
    made = workshop.bundle(workshop.run("coupled", task=task, variant=variant, layers=1))
    bare = json.loads((made / "tokenizer.json").read_text())
    bare["post_processor"] = None
    copied = changed(made, tmp_path / "copied", tokenizer=json.dumps(bare).encode())
    predictor = finegates_export.load(copied, threads=1)
    alone, beside = predictor.predict([""])[0], predictor.predict(["", *TEXTS[:6]])[0]
    if task in ("embedding", "feature-extraction"):
        assert alone.shape == beside.shape == ((32,) if task == "embedding" else (0, 32))
        assert not alone.any()
        assert not beside.any()
    else:
        assert np.isfinite(scores_of([alone])).all()
        np.testing.assert_allclose(*scores_of([alone, beside]), atol=1e-6)


def test_operators_that_are_not_ours_are_named(bundle, tmp_path):
    graph = onnx.load(bundle / "model.onnx")
    graph.graph.node[0].domain, graph.graph.node[0].op_type = "acme.ops", "Sharpen"
    graph.opset_import.append(onnx.helper.make_opsetid("acme.ops", 1))
    copied = changed(bundle, tmp_path / "copied", model=graph.SerializeToString())
    with pytest.raises(
        InputError, match=r"model\.onnx has the operator Sharpen of acme\.ops, which onnxruntime .* support"
    ):
        finegates_export.load(copied)


def test_a_file_that_is_no_graph_is_told(bundle, tmp_path):
    copied = changed(bundle, tmp_path / "copied", model=b"not a graph")
    with pytest.raises(InputError, match=r"cannot read .*model\.onnx"):
        finegates_export.load(copied)
    with pytest.raises(InputError, match="cannot read"):
        open_session(tmp_path / "gone.onnx", SessionOptions())


def test_a_bundle_file_that_says_too_little_is_told(bundle, tmp_path):
    copied = changed(bundle, tmp_path / "copied")
    info = json.loads((copied / "bundle.json").read_text())
    del info["task"], info["graphs"]
    (copied / "bundle.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match=r"damaged \(it lacks graphs, task\); export again"):
        finegates_export.load(copied)
