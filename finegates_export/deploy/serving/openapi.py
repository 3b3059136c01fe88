"""The server's OpenAPI description: what it accepts, and every status it returns."""

from __future__ import annotations

from finegates_export.common.stamp import versions
from finegates_export.common.tasks.answers import STRING, Schema
from finegates_export.deploy.serving.model import ServedModel
from finegates_export.deploy.serving.options import ServeOptions
from finegates_export.deploy.serving.protocol import INPUT, STRINGS, outputs_of
from finegates_export.deploy.serving.texts import PAIR

ERROR: Schema = {"type": "object", "properties": {"error": STRING}, "required": ["error"]}
POST_FAILURES = {
    400: "The body is not JSON.",
    413: "The body is larger than the limit.",
    422: "Wrong fields or types, too many texts, or one that is too long.",
    429: "Too many texts are waiting; try again later.",
    500: "The model failed.",
    503: "No replica could answer, or the server is stopping.",
    504: "No answer in time.",
}
PARAMETERS: Schema = {"type": "object", "description": "Ignored by this server."}


def document(model: ServedModel, options: ServeOptions) -> Schema:
    """The OpenAPI document of a server."""
    home = f"/v2/models/{model.name}"
    tensor = {"name": STRING, "datatype": STRING, "shape": _array({"type": "integer"})}
    described = _array(_object(tensor))
    model_said = {"name": STRING, "platform": STRING, "inputs": described, "outputs": described}
    live, ready = _object({"live": {"type": "boolean"}}), {503: ("No replica is ready.", ERROR)}
    server_said = {"name": STRING, "version": STRING, "extensions": _array(STRING)}
    model_ready = _object({"name": STRING, "ready": {"type": "boolean"}})
    paths = {
        "/v2": _get("Describe this server.", _object(server_said)),
        "/v2/health/live": _get("Whether the server is live.", live),
        "/v2/health/ready": _get("Whether a replica is ready.", live, ready),
        home: _get("The model's tensors.", _object(model_said)),
        f"{home}/ready": _get("Whether a replica of the model is ready.", model_ready, ready),
        f"{home}/infer": _post("Predict with the Open Inference Protocol.", _asked(model, options), _answered(model)),
        "/predict": _post("Predict.", _plain(options), _plain_answered(model)),
        "/metrics": _get("Counters for Prometheus.", STRING, kind="text/plain"),
        "/openapi.json": _get("This document.", {"type": "object"}),
    }
    told = f"The model {model.name}, trained for {model.task.name}. A body may have at most {options.max_body} bytes."
    info = {"title": "finegates-serve", "version": versions()["finegates-export"], "description": told}
    return {"openapi": "3.1.0", "info": info, "paths": paths}


def _text(options: ServeOptions) -> Schema:
    return {"type": "string", "maxLength": options.max_characters}


def _plain(options: ServeOptions) -> Schema:
    pair = _array(_text(options), minItems=PAIR, maxItems=PAIR)
    one = {"anyOf": [_text(options), pair]}
    alone = _object({"text": one}, additionalProperties=False)
    several = _object({"texts": _array(one, maxItems=options.max_texts)}, additionalProperties=False)
    return {"anyOf": [alone, several]}


def _plain_answered(model: ServedModel) -> Schema:
    one = _object(model.task.answer_schema())
    return {"anyOf": [one, _object({"predictions": _array(one)})]}


def _asked(model: ServedModel, options: ServeOptions) -> Schema:
    row = _array(_text(options), minItems=1, maxItems=PAIR)
    size = {"type": "integer", "minimum": 0, "maximum": options.max_texts}
    tensor = {
        "name": {"const": INPUT},
        "datatype": {"const": STRINGS},
        "shape": _array(size, minItems=1, maxItems=PAIR),
        "data": _array({"anyOf": [_text(options), row]}, maxItems=PAIR * options.max_texts),
    }
    told = {
        **_object(tensor),
        "description": "The shape counts the values in data; [B, 2] means pairs of texts.",
    }
    told["properties"]["parameters"] = PARAMETERS
    output = _object({"name": {"enum": list(outputs_of(model))}})
    asked = _object({"inputs": _array(told, minItems=1, maxItems=1)})
    asked["properties"] |= {"id": _text(options), "parameters": PARAMETERS, "outputs": _array(output)}
    return asked


def _answered(model: ServedModel) -> Schema:
    values = _array({"type": ["string", "number"]})
    tensor = {"name": {"enum": list(outputs_of(model))}, "datatype": STRING, "shape": _array({"type": "integer"})}
    answered = _object({"model_name": STRING, "outputs": _array(_object({**tensor, "data": values}))})
    answered["properties"]["id"] = STRING
    return answered


def _get(
    told: str, schema: Schema, failures: dict[int, tuple[str, Schema]] | None = None, kind: str = "application/json"
) -> Schema:
    said = {200: ("It is so.", schema), **(failures or {})}
    return {"get": {"summary": told, "responses": {str(status): _said(*said[status], kind) for status in said}}}


def _post(told: str, asked: Schema, answered: Schema) -> Schema:
    said = {200: ("The predictions.", answered), **{status: (why, ERROR) for status, why in POST_FAILURES.items()}}
    body = {"required": True, "content": {"application/json": {"schema": asked}}}
    responses = {str(status): _said(*said[status]) for status in said}
    return {"post": {"summary": told, "requestBody": body, "responses": responses}}


def _said(told: str, schema: Schema, kind: str = "application/json") -> Schema:
    return {"description": told, "content": {kind: {"schema": schema}}}


def _object(properties: dict[str, Schema], **more: object) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), **more}


def _array(items: Schema, **more: object) -> Schema:
    return {"type": "array", "items": items, **more}
