"""A real tritonserver serves repositories: text in, answers out, over HTTP and gRPC, equal to the runtime's."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from finegates_export import load
from tests.tiny import labelled_texts
from tests.triton.repositories import repository, with_stand_in
from tests.triton.server import need_environment, run_script, serving

TEXTS = [text for text, _ in labelled_texts(24)]
HARD = ["", "very " * 200, "Ünïcode, 漢字, \U0001f600\nand a tab\t", "a" * 1000]
PAIRS = [("the film was great", "a song"), ("awful", "the play told a story")]
TOLERANCE = 1e-5
ROUTES = ("http", "grpc")
PATIENCE = 50_000
"""Microseconds that a call waits for more rows: long enough for requests that are sent at once to meet, however busy
the machine is."""
LENIENT = {"min_agreement": 0.0, "max_metric_loss": 100.0}
LACKING = "unable to find backend library for backend 'onnxruntime'"


@pytest.fixture(scope="module", autouse=True)
def environment() -> None:
    need_environment()


@pytest.fixture(scope="module")
def bundles(workshop):
    """Bundles by the name that requests call their model."""
    pooled = {"task": "embedding", "layers": 1}
    runs = {
        "classification": (workshop.run("coupled", layers=1), {}),
        "multi_label": (workshop.run("coupled", layers=1, task="multi-label"), {}),
        "regression": (workshop.run("coupled", layers=1, labels=1), {}),
        "embedding": (workshop.run("coupled", **pooled), {"pool_in_graph": True}),
        "image_classification": (
            workshop.run("coupled", variant="vit", task="image-classification", layers=1), {}
        ),
        "mpnet": (workshop.run("coupled", variant="mpnet", layers=1), {}),
    }  # fmt: skip
    return {name: workshop.bundle(run, **options) for name, (run, options) in runs.items()}


@pytest.fixture(scope="module")
def written(bundles, tmp_path_factory):
    """One repository of all bundles, as it is delivered."""
    folder = tmp_path_factory.mktemp("written")
    together = folder / "together"
    for name, bundle in bundles.items():
        how = {"name": name, "queue_delay": PATIENCE}
        shutil.copytree(repository(bundle, folder / name, **how), together, dirs_exist_ok=True)
    return together


@pytest.fixture(scope="module")
def server(written, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with serving(with_stand_in(written, folder / "repository"), folder) as running:
        yield running


def rows_of(answers, output):
    """The rows of every answer, one after the other."""
    errors = [answer["error"] for answer in answers if "error" in answer]
    assert not errors
    return [row for answer in answers for row in answer["outputs"][output]]


def test_the_server_reads_every_config_and_lacks_its_onnxruntime_backend_alone(workshop, written, bundles, tmp_path):
    broken = shutil.copytree(written, tmp_path / "repository")
    accelerated = workshop.bundle(workshop.run("coupled", layers=1), target="tensorrt", **LENIENT)
    shutil.copytree(repository(accelerated, tmp_path / "own", name="tensorrt"), broken, dirs_exist_ok=True)
    assert "gpu_execution_accelerator" in (broken / "tensorrt_graph" / "config.pbtxt").read_text()
    for name, line, instead in (
        ("mpnet_graph", "preferred_batch_size: [8, 32]", "preferred_batch_size: [8, 65]"),
        ("regression_graph", "max_queue_delay_microseconds", "max_queue_delay_parsecs"),
    ):
        config = broken / name / "config.pbtxt"
        assert line in config.read_text()
        config.write_text(config.read_text().replace(line, instead))
    with serving(broken, tmp_path) as running:
        states, told = running.states(), running.log.read_text()
    for name in (*bundles, "tensorrt"):
        state, reason = states.get(f"{name}_graph", ("", ""))
        if name == "mpnet":
            assert "preferred size must be <= max batch size" in reason + told
        elif name == "regression":
            assert "max_queue_delay_parsecs" in told
            assert state != "READY"
        else:
            assert LACKING in reason
    assert all(states[name][0] == "READY" for name in states if name.endswith(("_tokenizer", "_answer")))


def test_every_model_is_ready_and_warm(server):
    states = server.states()
    assert {name for name, (state, _) in states.items() if state != "READY"} == set()
    assert server.get("v2/health/ready") == 200
    assert server.get("v2/models/classification/ready") == 200
    assert server.get("v2/models/nowhere/ready") != 200


@pytest.mark.parametrize("name", ["classification", "mpnet"])
def test_labels_and_scores_are_the_runtime_s(server, bundles, tmp_path, name):
    expected = load(bundles[name], threads=1).predict(TEXTS + HARD)
    requests = [{"text": [[text] for text in TEXTS]}, *({"text": [[text]]} for text in HARD)]
    answers = server.ask(name, requests, ["label", "score", "scores"], tmp_path)
    for route in ROUTES:
        assert [row[0] for row in rows_of(answers[route], "label")] == [one.label for one in expected]
        found = np.array(rows_of(answers[route], "scores"))
        np.testing.assert_allclose(found, [list(one.scores.values()) for one in expected], atol=TOLERANCE)
        np.testing.assert_allclose(
            np.array(rows_of(answers[route], "score"))[:, 0], [one.score for one in expected], atol=TOLERANCE
        )
        assert np.ptp(found, axis=0).max() > 100 * TOLERANCE  # texts differ, so a constant answer would not pass


def test_pairs_are_read_as_the_runtime_reads_them(server, bundles, tmp_path):
    predictor = load(bundles["classification"], threads=1)
    expected = [list(one.scores.values()) for one in predictor.predict(PAIRS)]
    joined = [list(one.scores.values()) for one in predictor.predict([" ".join(pair) for pair in PAIRS])]
    answers = server.ask("classification", [{"text": [list(pair) for pair in PAIRS]}], ["scores"], tmp_path)
    for route in ROUTES:
        found = np.array(rows_of(answers[route], "scores"))
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)
        assert np.abs(found - joined).max() > 10 * TOLERANCE


def test_many_requests_at_once_share_calls_and_get_their_own_answers(server, bundles, tmp_path):
    texts = [text for text, _ in labelled_texts(120)]
    expected = load(bundles["classification"], threads=1).predict(texts)
    requests = [{"text": [[text]]} for text in texts]
    before = server.counted("classification_graph")
    answers = server.ask("classification", requests, ["label", "score"], tmp_path, together=True)
    rows, calls = (
        after - earlier for after, earlier in zip(server.counted("classification_graph"), before, strict=True)
    )
    assert rows == len(ROUTES) * len(texts)
    assert calls < rows
    for route in ROUTES:
        assert [row[0] for row in rows_of(answers[route], "label")] == [one.label for one in expected]
        found = [row[0] for row in rows_of(answers[route], "score")]
        np.testing.assert_allclose(found, [one.score for one in expected], atol=TOLERANCE)


def test_labels_come_by_name_for_those_who_ask_for_classes(server, bundles, tmp_path):
    expected = load(bundles["classification"], threads=1).predict(TEXTS)
    requests = [{"text": [[text] for text in TEXTS]}]
    answers = server.ask("classification", requests, ["scores"], tmp_path, classes=1)
    for route in ROUTES:
        named = [row[0].split(":")[2] for row in rows_of(answers[route], "scores")]
        assert named == [one.label for one in expected]


def test_several_labels_one_number_and_a_vector(server, bundles, tmp_path):
    requests = [{"text": [[text] for text in TEXTS]}]
    several = load(bundles["multi_label"], threads=1).predict(TEXTS)
    answers = server.ask("multi_label", requests, ["label", "scores"], tmp_path)
    assert all(0 < len(one.labels) < len(one.scores) for one in several)
    for route in ROUTES:
        found = [tuple(filter(None, row)) for row in rows_of(answers[route], "label")]
        assert found == [one.labels for one in several]
        np.testing.assert_allclose(
            rows_of(answers[route], "scores"), [list(one.scores.values()) for one in several], atol=TOLERANCE
        )
    numbers = [one.score for one in load(bundles["regression"], threads=1).predict(TEXTS)]
    vectors = load(bundles["embedding"], threads=1).predict(TEXTS)
    scored = server.ask("regression", requests, ["score"], tmp_path)
    embedded = server.ask("embedding", requests, ["sentence_embedding"], tmp_path)
    for route in ROUTES:
        found = [row[0] for row in rows_of(scored[route], "score")]
        np.testing.assert_allclose(found, numbers, atol=TOLERANCE * np.abs(numbers).max())
        np.testing.assert_allclose(rows_of(embedded[route], "sentence_embedding"), vectors, atol=TOLERANCE)


def test_images(server, bundles, tmp_path):
    predictor = load(bundles["image_classification"], threads=1)
    shape = predictor._reader._shape
    images = np.random.default_rng(3).standard_normal((5, *shape)).astype(np.float32)
    expected = predictor.predict(list(images))
    answers = server.ask("image_classification", [{"pixel_values": images.tolist()}], ["label", "scores"], tmp_path)
    for route in ROUTES:
        assert [row[0] for row in rows_of(answers[route], "label")] == [one.label for one in expected]
        np.testing.assert_allclose(
            rows_of(answers[route], "scores"), [list(one.scores.values()) for one in expected], atol=TOLERANCE
        )


def test_the_ways_of_asking_in_the_documentation_work(server, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "triton.md").read_text(encoding="utf-8")
    (written,) = re.findall(r"```py\n(.*?)```", page, re.DOTALL)
    (line,) = re.findall(r"^curl .*$", page, re.MULTILINE)
    for module, port, address in (("http", 8000, server.http), ("grpc", 8001, server.grpc)):
        told = written.replace("tritonclient.http", f"tritonclient.{module}").replace("localhost:8000", address)
        assert f"port {port}" in page or f"localhost:{port}" in page
        (tmp_path / "ask.py").write_text(told)
        assert re.search("bad|medium|nice", run_script(tmp_path / "ask.py"))
    words = shlex.split(line.replace("localhost:8000", server.http))
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    answer = json.loads(done.stdout)
    assert {one["name"] for one in answer["outputs"]} == {"label", "score", "scores"}


def test_what_cannot_be_read_is_refused_with_words_and_the_server_goes_on(server, tmp_path):
    requests = [
        {"text": [["a", "b", "c"]]},
        {"text": [["fine"]] * 65},
        {"pixel_values": [[1.0]]},
        {"text": [["a lovely film"]]},
    ]
    answers = server.ask("classification", requests, ["label"], tmp_path)
    for route in ROUTES:
        three, many, other, fine = answers[route]
        assert "each row must hold one text or a pair of texts" in three["error"]
        assert "batch-size must be <= 64" in many["error"]
        assert "pixel_values" in other["error"]
        assert fine["outputs"]["label"]
