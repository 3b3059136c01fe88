"""What the application makes of a model's answers, without a server and without a model."""

from __future__ import annotations

import asyncio
import json

import pytest

from finegates_export.common.tasks import task_of
from finegates_export.deploy.serving.application import application
from finegates_export.deploy.serving.door import Door
from finegates_export.deploy.serving.metrics import Metrics
from finegates_export.deploy.serving.model import ServedModel
from finegates_export.deploy.serving.models import Models
from finegates_export.deploy.serving.options import ServeOptions
from finegates_export.deploy.serving.replicas import Replicas

MODEL = ServedModel("regression", task_of("regression"), (), "float", ("CPUExecutionProvider",))
ASKED = {
    "/predict": {"text": "a film"},
    "/v2/models/regression/infer": {
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a film"]}]
    },
}


class Fixed(Replicas):
    """A model that gives one score."""

    def __init__(self, score: float) -> None:
        self.score, self.model = score, MODEL

    async def ask(self, texts):
        return [{"score": self.score} for _ in texts]

    def count(self):
        return 1

    async def close(self):
        pass


def answered(path, score):
    """Status and body of a request to a model that gives this score."""

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        sent.append(message)

    async def request():
        options, metrics = ServeOptions("bundle"), Metrics()
        models = Models(options, metrics)
        await models.start(Fixed(score))
        door = Door(application(models, options, metrics), options, metrics)
        headers = [(b"content-length", str(len(body)).encode())]
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
        await door(scope, receive, send)

    sent, body = [], json.dumps(ASKED[path]).encode()
    asyncio.run(request())
    start, said = sent
    return start["status"], said["body"].decode()


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
