"""The routes of a server: FastAPI checks what comes in and describes it in OpenAPI, the models answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import Request

from finegates_export.common.stamp import versions
from finegates_export.deploy.serving.bodies import plain_type, protocol_type, texts_of, told
from finegates_export.deploy.serving.metrics import CONTENT_TYPE, Metrics
from finegates_export.deploy.serving.models import Models
from finegates_export.deploy.serving.options import ServeOptions
from finegates_export.deploy.serving.protocol import metadata, read_request, write_answer
from finegates_export.deploy.serving.refusals import (
    BAD_REQUEST,
    FAILED,
    NOT_FOUND,
    UNAVAILABLE,
    UNPROCESSABLE,
    WRONG_METHOD,
    Refused,
    check_answers,
)
from finegates_export.deploy.serving.responses import (
    FAILURES,
    LIVE,
    METADATA,
    NOT_READY,
    READY,
    SERVER,
    answered,
    described,
    predicted,
)

PREDICT, MODELS = "/predict", "/v2/models"
SILENT: Any = dict.fromkeys(("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False)
"""FastAPI's OpenTelemetry, which would hand texts to whatever exporter the environment names; versions without it
ignore this."""


def application(models: Models, options: ServeOptions, metrics: Metrics) -> FastAPI:
    """The routes of one server.

    Args:
        models: answer texts.
        options: the limits.
        metrics: shown at `/metrics`.
    """
    names = models.names()
    info = f"Serves {', '.join(names)}. A body may have at most {options.max_body} bytes."
    keys = [HTTPBearer(auto_error=False)] if options.api_key_file else []
    app = FastAPI(
        title="finegates-serve", version=versions()["finegates-export"], description=info, docs_url=None,
        redoc_url=None, telemetry=SILENT, redirect_slashes=False, separate_input_output_schemas=False,
        exception_handlers={
            RequestValidationError: _invalid, HTTPException: _no_route(names), Refused: _refused, Exception: _refused,
        },
    )  # fmt: skip
    for scheme in keys:  # the door checks the key; this describes it
        app.router.dependencies.append(_described(scheme))
    _add_server(app, models, metrics)
    for name in names:
        _add_model(app, models, name, options)
    return app


class Json(Response):
    """An answer as JSON, all ASCII: what clients send may hold half a surrogate pair.

    Raises:
        Refused: a number that JSON cannot represent.
    """

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes."""
        try:
            return json.dumps(content, allow_nan=False).encode()
        except ValueError as error:
            raise Refused(FAILED, "the model failed: its answer has a number that is not finite") from error


def _add_server(app: FastAPI, models: Models, metrics: Metrics) -> None:
    server = {"name": app.title, "version": app.version, "extensions": []}

    async def about() -> Response:
        return Json(server)

    async def live() -> Response:
        return Json({"live": True})

    async def ready() -> Response:
        return _when(models.ready(), {"live": True})

    async def page() -> Response:
        return Response(metrics.page(), media_type=CONTENT_TYPE)

    _get(app, "/v2", about, "Describe this server.", described(SERVER))
    _get(app, "/v2/health/live", live, "Whether the server is live.", described(LIVE))
    _get(app, "/v2/health/ready", ready, "Whether every model has a replica.", described(LIVE) | NOT_READY)
    _get(app, "/metrics", page, "Counters for Prometheus.", described({"type": "string"}, "text/plain"))


def _add_model(app: FastAPI, models: Models, name: str, options: ServeOptions) -> None:
    model, home = models.served(name).model, f"{MODELS}/{name}"

    async def about() -> Response:
        return Json(metadata(models.served(name).model))

    async def ready() -> Response:
        return _when(models.served(name).replicas.count() > 0, {"name": name, "ready": True})

    async def predict(body: Any) -> Response:
        texts, alone = texts_of(body)
        found = await models.served(name).batches.answers(texts)
        check_answers(found)
        return Json(found[0] if alone else {"predictions": found})

    async def infer(body: Any) -> Response:
        asked, served = read_request(body), models.served(name)
        model, found = served.model, await served.batches.answers(asked.texts)
        return Json(write_answer(asked, found, model))

    predict.__annotations__["body"] = plain_type(model, options)
    said = described(predicted(model))
    if len(models.names()) == 1:
        _post(app, PREDICT, predict, "Predict.", said)
    _post(app, f"{PREDICT}/{name}", predict, f"Predict with {name}.", said)
    if model.task.answer_tensors(model.labels):
        infer.__annotations__["body"] = protocol_type(model, options)
        _get(app, home, about, "The model's tensors.", described(METADATA))
        _get(app, f"{home}/ready", ready, "Whether the model has a replica.", described(READY) | NOT_READY)
        _post(app, f"{home}/infer", infer, "Predict with the Open Inference Protocol.", described(answered(model)))


def _get(app: FastAPI, path: str, endpoint: Callable[..., Any], summary: str, said: dict[int | str, Any]) -> None:
    app.add_api_route(
        path, endpoint, methods=["GET"], summary=summary, responses=said, response_class=Response,
        response_model=None, operation_id=f"get {path}",
    )  # fmt: skip


def _post(app: FastAPI, path: str, endpoint: Callable[..., Any], summary: str, said: dict[int | str, Any]) -> None:
    app.add_api_route(
        path, endpoint, methods=["POST"], summary=summary, responses=said | FAILURES, response_class=Response,
        response_model=None, operation_id=f"post {path}",
    )  # fmt: skip


def _described(scheme: HTTPBearer) -> Any:
    from fastapi import Security

    return Security(scheme)


def _when(ready: bool, said: dict[str, Any]) -> Response:
    if not ready:
        raise Refused(UNAVAILABLE, "no replica is ready")
    return Json(said)


def _error(request: Request, status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    request.scope["error"] = message  # for the access log
    return Json({"error": message}, status, headers)


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, Refused):
        return _error(request, error.status, error.message)
    return _error(request, FAILED, "the server failed; see its log")


async def _invalid(request: Request, error: Exception) -> Response:
    """The first thing that is wrong with a body."""
    first: dict[str, Any] = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    if first["type"] == "json_invalid":
        said = f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}"
        return _error(request, BAD_REQUEST, said)
    return _error(request, UNPROCESSABLE, told(first))


def _no_route(names: Sequence[str]) -> Callable[[Request, Exception], Coroutine[Any, Any, Response]]:
    async def refused(request: Request, error: Exception) -> Response:
        known, path = ", ".join(names), request.url.path[:200]
        said = {
            NOT_FOUND: f"no such path: {path}; the server has the model{'s' * (len(names) > 1)} {known}",
            WRONG_METHOD: f"{path} does not accept {request.method[:20]}",
            BAD_REQUEST: "the body is not JSON: it is no UTF-8, too deep, or has too long a number",
        }
        if not isinstance(error, HTTPException):
            return await _refused(request, error)
        message = said.get(error.status_code, f"refused with status {error.status_code}")
        return _error(request, error.status_code, message, error.headers)

    return refused
