"""What the application makes of a model's answers, without a server and without a model."""

from __future__ import annotations

import asyncio
import json

import pytest

from finegates_export.common.tasks import task_of
from finegates_export.deploy.serving.application import Application
from finegates_export.deploy.serving.batches import Batches
from finegates_export.deploy.serving.metrics import Metrics
from finegates_export.deploy.serving.model import ServedModel
from finegates_export.deploy.serving.options import ServeOptions

MODEL = ServedModel("regression", task_of("regression"), (), "float", ("CPUExecutionProvider",))
ASKED = {
    "/predict": {"text": "a film"},
    "/v2/models/regression/infer": {
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a film"]}]
    },
}


def answered(path, score):
    """Status and body of a request to a model that gives this score."""

    async def ask(texts):
        return [{"score": score} for _ in texts]

    async def receive():
        return {"type": "http.request", "body": json.dumps(ASKED[path]).encode()}

    async def send(message):
        sent.append(message)

    async def request():
        options, metrics = ServeOptions("bundle"), Metrics()
        application = Application(MODEL, Batches(ask, options, metrics), options, metrics)
        await application({"type": "http", "method": "POST", "path": path, "headers": []}, receive, send)

    sent = []
    asyncio.run(request())
    start, body = sent
    return start["status"], body["body"].decode()


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_have_is_a_failure_of_the_model(path, score):
    status, body = answered(path, score)
    assert (status, json.loads(body)) == (
        500,
        {"error": "the model failed: its answer has a number that is not finite"},
    )
    status, body = answered(path, 0.5)
    assert status == 200
    assert "0.5" in body
