"""Several bundles in one server, and a bundle that is replaced while it is served."""

from __future__ import annotations

import shutil
import signal

import pytest

import finegates_export
from tests.serving.running import eventually, serving
from tests.tiny import labelled_texts

TEXTS = [text for text, _ in labelled_texts(6)]
QUESTION = ["what was great?", "the film was great"]


@pytest.fixture(scope="module")
def other(workshop):
    """A bundle of the same task with other answers."""
    return workshop.bundle(workshop.run("coupled", layers=1))


def scores(server, path="/predict"):
    return [one["score"] for one in server.post(path, {"texts": TEXTS}).body["predictions"]]


def expected(bundle):
    return pytest.approx([one.score for one in finegates_export.load(bundle, threads=1).predict(TEXTS)], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("how", [("--watch",), ("--replicas", "2"), ()], ids=["watch", "hang-up, workers", "hang-up"])
def test_a_bundle_is_replaced_without_an_answer_lost(bundle, other, tmp_path, how):
    served = shutil.copytree(bundle, tmp_path / "served")
    assert expected(bundle) != [one.score for one in finegates_export.load(other, threads=1).predict(TEXTS)]
    with serving(served, *how) as server:
        assert scores(server) == expected(bundle)
        served.rename(tmp_path / "before")
        shutil.copytree(other, tmp_path / "copy").rename(served)
        if "--watch" not in how:
            server.process.send_signal(signal.SIGHUP)
        statuses = set()

        def is_new():
            said = server.post("/predict", {"texts": TEXTS})
            statuses.add(said.status)
            return [one["score"] for one in said.body["predictions"]] == expected(other)

        eventually(is_new)
        assert statuses == {200}
        (served / "model.onnx").write_bytes(b"broken")
        server.process.send_signal(signal.SIGHUP)
        assert scores(server) == expected(other)
        assert server.stop() == 0


@pytest.mark.slow
def test_several_bundles_of_several_tasks_are_served_by_name(bundle, other, workshop):
    words = workshop.bundle(workshop.run("coupled", task="token-classification", layers=1))
    answers = workshop.bundle(workshop.run("coupled", task="question-answering", layers=1))
    names = ["--name", "one", "--name", "two", "--name", "words", "--name", "answers"]
    with serving(bundle, str(other), str(words), str(answers), *names) as server:
        assert scores(server, "/predict/one") == expected(bundle)
        assert scores(server, "/predict/two") == expected(other)
        said = server.post("/predict", {"text": "a"})
        assert said.status == 404
        assert "the server has the models one, two, words, answers" in said.body["error"]
        assert server.get("/v2/models/two").body["name"] == "two"
        assert server.get("/v2/models/words").status == 404
        told = server.post("/predict/words", {"texts": [TEXTS[0], TEXTS[0].split()]}).body["predictions"]
        found = finegates_export.load(words, threads=1).predict([TEXTS[0]])[0]
        assert [word["label"] for word in told[0]["words"]] == [word.label for word in found]
        assert [word["number"] for word in told[1]["words"]] == [word.number for word in found]
        one = server.post("/predict/answers", {"text": QUESTION}).body
        (span,) = finegates_export.load(answers, threads=1).predict([tuple(QUESTION)])
        assert (one["text"], one["start"], one["end"]) == (span.text, span.start, span.end)
        refused = server.post("/predict/answers", {"text": "alone"})
        assert (refused.status, refused.body["error"]) == (422, "text: Input should be a valid list, got a string")
