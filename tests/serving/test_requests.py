"""What a server answers, by both forms of requests; and what it does not answer, with the reason."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import jsonschema
import numpy as np
import pytest

from tests.tiny import LABELS, labelled_texts

TEXTS = [text for text, _ in labelled_texts(8)]
PAIRS = [("the film was great", "a song"), ("awful", "the play told a story")]
MODEL = "/v2/models/classification"
NAMES = list(LABELS[:3])


def tensor(data, shape=None, **changes):
    return {"name": "text", "datatype": "BYTES", "shape": shape or [len(data)], "data": data, **changes}


def infer(server, data, shape=None, **more):
    return server.post(f"{MODEL}/infer", {"inputs": [tensor(data, shape)], **more})


def same(found, expected):
    assert [one["label"] for one in found] == [one.label for one in expected]
    np.testing.assert_allclose([one["score"] for one in found], [one.score for one in expected], atol=1e-5)
    for one, other in zip(found, expected, strict=True):
        assert list(one["scores"]) == list(other.scores)
        np.testing.assert_allclose(list(one["scores"].values()), list(other.scores.values()), atol=1e-5)


def test_predict_says_what_the_runtime_says(server, predictor):
    said = server.post("/predict", {"texts": TEXTS})
    assert said.status == 200
    same(said.body["predictions"], predictor.predict(TEXTS))
    same([server.post("/predict", {"text": TEXTS[1]}).body], predictor.predict(TEXTS[1:2]))
    assert np.ptp([one["score"] for one in said.body["predictions"]]) > 1e-3, "texts alike would not show a mix-up"


@pytest.mark.parametrize("texts", [[""], ["so " * 150], ["ünï 🎬 \x00"], []], ids=["empty", "long", "unicode", "none"])
def test_odd_texts_are_answered_as_by_the_runtime(server, predictor, texts):
    same(server.post("/predict", {"texts": texts}).body["predictions"], predictor.predict(texts))


def test_pairs_are_read_by_both_forms(server, predictor):
    expected = predictor.predict(PAIRS)
    same(server.post("/predict", {"texts": [list(pair) for pair in PAIRS]}).body["predictions"], expected)
    flat = infer(server, [text for pair in PAIRS for text in pair], [2, 2]).body["outputs"]
    nested = infer(server, [list(pair) for pair in PAIRS], [2, 2]).body["outputs"]
    assert flat == nested
    assert flat[0]["data"] == [one.label for one in expected]


def test_the_protocol_answers_with_tensors(server, predictor):
    expected = predictor.predict(TEXTS)
    said = infer(server, TEXTS, id="7", parameters={"binary_data_output": False})
    assert said.status == 200
    assert (said.body["model_name"], said.body["id"]) == ("classification", "7")
    label, score, scores = said.body["outputs"]
    assert label == {"name": "label", "datatype": "BYTES", "shape": [8], "data": [one.label for one in expected]}
    assert (score["name"], score["datatype"], score["shape"]) == ("score", "FP32", [8])
    np.testing.assert_allclose(score["data"], [one.score for one in expected], atol=1e-5)
    assert scores["shape"] == [8, 3]
    probabilities = [value for one in expected for value in one.scores.values()]
    np.testing.assert_allclose(scores["data"], probabilities, atol=1e-5)


def test_outputs_are_those_that_were_asked_for(server):
    said = infer(server, [[text] for text in TEXTS[:2]], [2, 1], outputs=[{"name": "score"}])
    assert [output["name"] for output in said.body["outputs"]] == ["score"]
    assert "id" not in said.body
    assert [output["shape"] for output in infer(server, [], [0]).body["outputs"]] == [[0], [0], [0, 3]]


def test_what_may_be_left_away_may_be_null(server):
    said = server.post(
        f"{MODEL}/infer", {"inputs": [tensor(["a"], parameters=None)], "id": None, "parameters": None, "outputs": None}
    )
    assert said.body == infer(server, ["a"]).body
    assert [output["name"] for output in said.body["outputs"]] == ["label", "score", "scores"]


def test_server_and_model_describe_themselves(server):
    assert server.get("/v2").body["name"] == "finegates-serve"
    assert server.get("/v2/health/live").body == server.get("/v2/health/ready").body == {"live": True}
    assert server.get(f"{MODEL}/ready").body == {"name": "classification", "ready": True}
    told = server.get(MODEL).body
    assert told["platform"] == "onnxruntime_onnx"
    assert told["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert [(one["name"], one["shape"]) for one in told["outputs"]] == [
        ("label", [-1]), ("score", [-1]), ("scores", [-1, 3]),
    ]  # fmt: skip
    assert server.send("HEAD", "/v2/health/ready").status == 200


@pytest.mark.parametrize(
    ("status", "path", "body", "told"),
    [
        (400, "/predict", b"{", "the body is not JSON: "),
        (400, "/predict", b"[" * 3000, "the body is not JSON: "),
        (400, "/predict", b"\xff", "the body is not JSON: "),
        (422, "/predict", b"[]", "the body: Input should be a valid dictionary"),
        (422, "/predict", {}, "text: Field required"),
        (422, "/predict", {"text": "a", "texts": []}, "text: Extra inputs are not permitted"),
        (422, "/predict", {"text": "a", "model": 3}, "model: Extra inputs are not permitted"),
        (422, "/predict", {"text": 3}, "text: Input should be a valid string, got 3"),
        (422, "/predict", {"text": None}, "text: Input should be a valid string, got null"),
        (422, "/predict", {"texts": "a film"}, "texts: Input should be a valid list, got a string"),
        (422, "/predict", {"texts": ["a", {}]}, "texts[1]: Input should be a valid string, got an object"),
        (422, "/predict", {"texts": [["a", "b", "c"]]}, "texts[0]: List should have at most 2 items"),
        (422, "/predict", {"texts": [["a", True]]}, "texts[0][1]: Input should be a valid string, got a boolean"),
        (422, "/predict", {"texts": ["a"] * 9}, "texts: List should have at most 8 items"),
        (422, "/predict", {"text": "a" * 501}, "text: String should have at most 500 characters, got 501"),
        (422, "/predict", b'{"text": "ab\\ud800"}', "text: Input should be a valid string, unable to parse"),
        (422, "/predict", b'{"text": "a", "\\ud800": 1}', "the body: Input should be a valid string, unable"),
        (413, "/predict", {"text": "a" * 4001}, "the body has 4013 bytes or more, above the limit of 4000"),
        (422, f"{MODEL}/infer", {}, "inputs: Field required"),
        (422, f"{MODEL}/infer", {"inputs": []}, "inputs: List should have at least 1 item"),
        (422, f"{MODEL}/infer", {"inputs": [3]}, "inputs[0]: Input should be a valid dictionary"),
        (422, f"{MODEL}/infer", {"inputs": [tensor(["a"], name="x")]}, "inputs[0].name: Input should be 'text'"),
        (422, f"{MODEL}/infer", {"inputs": [tensor([1], datatype="INT64")]}, "inputs[0].datatype: Input should be"),
        (422, f"{MODEL}/infer", {"inputs": [tensor([1])]}, "inputs[0].data[0]: Input should be a valid string, got 1"),
        (422, f"{MODEL}/infer", {"inputs": [tensor(["a"], [2])]},
         "inputs[0]: data has 1 values, but shape [2] asks for 2"),
        (422, f"{MODEL}/infer", {"inputs": [tensor([["a"], ["b", "c"]], [2, 2])]},
         "inputs[0]: data[0] has 1 values, but shape [2, 2] asks for 2"),
        (422, f"{MODEL}/infer", {"inputs": [tensor(["a"])], "parameters": 0}, "parameters: Input should be a valid"),
        (422, f"{MODEL}/infer", {"inputs": [tensor(["a"], [-1])]}, "inputs[0].shape[0]: Input should be greater"),
        (422, f"{MODEL}/infer", {"inputs": [tensor(["a"], [True])]}, "inputs[0].shape[0]: Input should be a valid int"),
        (422, f"{MODEL}/infer", {"inputs": [tensor(["a"], [1, 3])]}, "inputs[0]: shape is [1, 3]; give [B], [B, 1]"),
        (422, f"{MODEL}/infer", {"inputs": [tensor(["a"], [10**9])]}, "inputs[0].shape[0]: Input should be less than"),
        (422, f"{MODEL}/infer", {"inputs": [tensor(["a"])], "outputs": [{"name": "x"}]}, "outputs[0].name: Input"),
        (422, f"{MODEL}/infer", {"inputs": [tensor(["a"])], "id": 7}, "id: Input should be a valid string, got 7"),
        (404, "/v2/models/other/infer", {}, "no such path: /v2/models/other/infer; the server has the model class"),
        (404, "/", {}, "no such path: /; the server has the model classification"),
        (405, "/v2/health/live", {}, "/v2/health/live does not accept POST"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(server, status, path, body, told):
    said = server.post(path, body)
    assert said.status == status
    assert list(said.body) == ["error"]
    assert said.body["error"].startswith(told)
    assert "\n" not in said.body["error"]
    assert "Traceback" not in said.body["error"]


def test_a_body_without_a_length_is_limited_too(server):
    said = server.send("POST", "/predict", iter([b"[" * 1000] * 5))
    assert (said.status, said.body) == (413, {"error": "the body has 5000 bytes or more, above the limit of 4000"})


def test_a_get_where_a_post_belongs_says_which(server):
    said = server.get("/predict")
    assert (said.status, said.headers["allow"]) == (405, "POST")


def test_an_upgrade_that_is_not_spoken_is_a_plain_request(server):
    asked = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    said = server.send("GET", "/v2", **asked, **{"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
    assert (said.status, said.body) == (200, server.get("/v2").body)


def test_many_clients_each_get_the_answer_to_their_own_text(server, predictor):
    texts = [f"{text} {number}" for number, text in enumerate(TEXTS * 20)]
    before, asked = server.metric("finegates_batch_texts_sum"), server.metric("finegates_batch_texts_count")
    with ThreadPoolExecutor(16) as pool:
        said = list(pool.map(lambda text: server.post("/predict", {"text": text}), texts))
    assert {one.status for one in said} == {200}
    same([one.body for one in said], predictor.predict(texts))
    assert server.metric("finegates_batch_texts_sum") - before == len(texts)
    assert server.metric("finegates_batch_texts_count") - asked < len(texts), "no two texts went together"


def test_every_request_is_counted_under_a_known_route(server):
    ok, missed = 'finegates_requests_total{route="/predict",status="200"} ', 'route="other",status="404"'
    before = server.metric("finegates_requests_total")
    server.post("/predict", {"text": "a"})
    server.get("/secret/path")
    page = server.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = page.body.decode()
    assert ok in text
    assert missed in text
    assert "secret" not in text
    assert server.metric("finegates_requests_total") > before + 2
    assert server.metric("finegates_replicas") == 2


def test_the_answers_are_those_that_the_openapi_document_promises(server):
    document = server.get("/openapi.json").body
    parts = document["components"]
    plain = {"texts": TEXTS}
    asked = {f"{MODEL}/infer": {"inputs": [tensor(TEXTS)]}, "/predict": plain, "/predict/classification": plain}
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            body = asked.get(path)
            said = server.send(method.upper(), path, body)
            ((kind, content),) = told["responses"][str(said.status)]["content"].items()
            assert said.status == 200
            if kind == "application/json":
                jsonschema.validate(said.body, content["schema"])
            if body:
                schema = {**told["requestBody"]["content"]["application/json"]["schema"], "components": parts}
                jsonschema.validate(body, schema)
                with pytest.raises(jsonschema.ValidationError):
                    jsonschema.validate({}, schema)
