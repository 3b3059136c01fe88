"""What the server's answers look like, for its OpenAPI description: every status, and the schema of its body."""

from __future__ import annotations

from typing import Any

from finegates_export.common.tasks.answers import STRING, WHOLE, Schema
from finegates_export.deploy.serving.model import ServedModel
from finegates_export.deploy.serving.protocol import outputs_of

Responses = dict[int | str, dict[str, Any]]
"""As FastAPI takes them, by status."""
JSON = "application/json"
BOOLEAN: Schema = {"type": "boolean"}


def array(items: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": items}


def record(properties: dict[str, Schema]) -> Schema:
    """An object that has all of these fields."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def described(schema: Schema, kind: str = JSON) -> Responses:
    """The good answer."""
    return {200: _said("It is so.", schema, kind), 401: _said("The key is missing or wrong.", ERROR)}


def predicted(model: ServedModel) -> Schema:
    """The answer of `/predict`."""
    one = record(model.task.answer_schema())
    return {"anyOf": [one, record({"predictions": array(one)})]}


def answered(model: ServedModel) -> Schema:
    """The answer of the Open Inference Protocol."""
    values = array({"type": ["string", "number"]})
    tensor = {"name": {"enum": list(outputs_of(model))}, "datatype": STRING, "shape": array(WHOLE), "data": values}
    said = record({"model_name": STRING, "outputs": array(record(tensor))})
    said["properties"]["id"] = STRING
    return said


def _said(told: str, schema: Schema, kind: str = JSON) -> dict[str, Any]:
    return {"description": told, "content": {kind: {"schema": schema}}}


ERROR = record({"error": STRING})
SERVER = record({"name": STRING, "version": STRING, "extensions": array(STRING)})
LIVE = record({"live": BOOLEAN})
READY = record({"name": STRING, "ready": BOOLEAN})
_TENSORS = array(record({"name": STRING, "datatype": STRING, "shape": array(WHOLE)}))
METADATA = record({"name": STRING, "platform": STRING, "inputs": _TENSORS, "outputs": _TENSORS})
NOT_READY: Responses = {503: _said("No replica is ready.", ERROR)}
FAILURES: Responses = {
    status: _said(told, ERROR)
    for status, told in {
        400: "The body is not JSON.",
        408: "The body did not arrive in time.",
        413: "The body is larger than the limit.",
        422: "Wrong fields or types, too many texts, or one that is too long.",
        429: "Too many texts are waiting, or too many bytes arrive at once; try again later.",
        500: "The model failed.",
        503: "No replica could answer, or the server is stopping.",
        504: "No answer in time.",
    }.items()
}
