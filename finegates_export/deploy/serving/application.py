"""The server's answer to each request: an ASGI application, without a framework's cost per request."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from finegates_export.common.files import JsonObject
from finegates_export.common.stamp import versions
from finegates_export.deploy.serving.batches import Batches
from finegates_export.deploy.serving.metrics import CONTENT_TYPE, Metrics
from finegates_export.deploy.serving.model import ServedModel
from finegates_export.deploy.serving.openapi import document
from finegates_export.deploy.serving.options import ServeOptions
from finegates_export.deploy.serving.protocol import metadata, read_request, write_answer
from finegates_export.deploy.serving.refusals import FAILED, NOT_FOUND, TOO_LARGE, UNAVAILABLE, WRONG_METHOD, Refused
from finegates_export.deploy.serving.texts import plain_answer, read_json, read_plain

Message = dict[str, Any]
"""As ASGI has it."""
Scope = Message
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
JSON = "application/json"
METRICS = "/metrics"
DISCARDED = 8 << 20
"""Bytes past the limit to read and discard: a client that is still sending does not read the answer."""
UNKNOWN = "other"
"""The route that counts all unknown paths; counting each by name would let anyone fill the memory."""


class Application:
    """The routes of one server.

    Args:
        model: the served model.
        batches: answers texts.
        options: the limits.
        metrics: counts every request.
    """

    def __init__(self, model: ServedModel, batches: Batches, options: ServeOptions, metrics: Metrics) -> None:
        self._model, self._batches, self._options, self._metrics = model, batches, options, metrics
        home, described = f"/v2/models/{model.name}", document(model, options)
        server = {"name": "finegates-serve", "version": versions()["finegates-export"], "extensions": []}
        self._gets: dict[str, Callable[[], object]] = {
            "/v2": lambda: server,
            "/v2/health/live": lambda: {"live": True},
            "/v2/health/ready": lambda: self._when_ready({"live": True}),
            home: lambda: metadata(model),
            f"{home}/ready": lambda: self._when_ready({"name": model.name, "ready": True}),
            "/openapi.json": lambda: described,
            METRICS: metrics.page,
        }
        self._posts: dict[str, Callable[[bytes], Awaitable[JsonObject]]] = {
            f"{home}/infer": self._infer,
            "/predict": self._predict,
        }
        metrics.watch("waiting_texts", "Texts waiting for a replica.", lambda: batches.waiting)
        metrics.watch("replicas", "Replicas ready to answer.", lambda: batches.replicas)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        started, path = time.perf_counter(), scope["path"].rstrip("/")
        headers = [(b"content-type", JSON.encode())]
        try:
            status, content = 200, _written(await self._answer(scope["method"], path, scope, receive))
        except Refused as error:
            status, content = error.status, _written({"error": error.message})
            if status == WRONG_METHOD:
                headers.append((b"allow", b"POST" if path in self._posts else b"GET, HEAD"))
        except asyncio.CancelledError:  # the time limit of a stopping server is over
            status, content = UNAVAILABLE, _written({"error": "the server is stopping"})
        if path == METRICS and status == 200:
            headers = [(b"content-type", CONTENT_TYPE.encode())]
        headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})
        route = path if path in self._gets or path in self._posts else UNKNOWN
        self._metrics.request(route, status, time.perf_counter() - started)

    async def _answer(self, method: str, path: str, scope: Scope, receive: Receive) -> object:
        if path in self._posts and method == "POST":
            return await self._posts[path](await self._body(scope, receive))
        if path in self._gets and method in ("GET", "HEAD"):
            return self._gets[path]()
        if path in self._gets or path in self._posts:
            raise Refused(WRONG_METHOD, f"{path} does not accept {method[:20]}")
        raise Refused(NOT_FOUND, f"no such path: {path[:200] or '/'}; the model is called {self._model.name}")

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        limit = self._options.max_body
        told = int(dict(scope["headers"]).get(b"content-length", b"0"))
        parts: list[bytes] = []
        size, more = 0, True
        while more and size <= limit + DISCARDED:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refused(UNAVAILABLE, "the client disconnected")
            part, more = message.get("body", b""), message.get("more_body", False)
            size += len(part)
            if max(size, told) <= limit:
                parts.append(part)
            else:
                parts.clear()
        if max(size, told) > limit:
            raise Refused(TOO_LARGE, f"the body has {max(size, told)} bytes or more, above the limit of {limit}")
        return b"".join(parts)

    async def _predict(self, body: bytes) -> JsonObject:
        texts, alone = read_plain(read_json(body), self._options)
        return plain_answer(await self._batches.answers(texts), alone)

    async def _infer(self, body: bytes) -> JsonObject:
        asked = read_request(read_json(body), self._model, self._options)
        return write_answer(asked, await self._batches.answers(asked.texts), self._model)

    def _when_ready(self, said: JsonObject) -> JsonObject:
        if not self._batches.replicas:
            raise Refused(UNAVAILABLE, "no replica is ready")
        return said


def _written(body: object) -> bytes:
    """A response's content: bytes unchanged, everything else as JSON.

    Raises:
        Refused: a number that JSON cannot represent.
    """
    if isinstance(body, bytes):
        return body
    try:
        return json.dumps(body, allow_nan=False).encode()
    except ValueError as error:
        raise Refused(FAILED, "the model failed: its answer has a number that is not finite") from error
