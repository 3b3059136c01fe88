"""What every request passes: a number of its own, the key, limits of its body, the count, the access log.

This is ASGI, around the routes: a body is refused while it arrives, before anything reads it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finegates_export.deploy.serving.metrics import Metrics
from finegates_export.deploy.serving.options import ServeOptions
from finegates_export.deploy.serving.refusals import (
    FAILED,
    SLOW,
    TOO_LARGE,
    TOO_MANY,
    UNAUTHORIZED,
    UNAVAILABLE,
    Refused,
)
from finegates_export.errors import InputError

Message = MutableMapping[str, Any]
"""As ASGI has it."""
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
ACCESS = logging.getLogger("finegates.serving.access")
REQUEST_ID = b"x-request-id"
GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
DISCARDED = 8 << 20
"""Bytes past the limit to read and discard: a client that is still sending does not read the answer."""
BODIES = 64
"""Bodies of the largest size that may arrive at once; more would fill the memory."""
UNKNOWN = "other"
"""The route that counts all unknown paths; counting each by name would let anyone fill the memory."""
OPEN = ("/v2/health/live", "/v2/health/ready")
"""Paths that need no key: whoever watches over a process asks them."""
BEARER = b"bearer "


@dataclass
class _Passing:
    """One request on its way."""

    id: str
    started: float
    status: int = FAILED
    error: str = ""
    sent: bool = False
    whole: bool = True
    headers: dict[bytes, bytes] = field(default_factory=dict)


class Door:
    """The application as uvicorn calls it.

    Args:
        app: the routes.
        options: the limits.
        metrics: counts every request.

    Raises:
        InputError: the file of keys cannot be read or holds none.
    """

    def __init__(self, app: App, options: ServeOptions, metrics: Metrics) -> None:
        self._app, self._options, self._metrics = app, options, metrics
        self._keys = read_keys(options.api_key_file) if options.api_key_file else None
        self._arriving = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        # a copy: uvicorn itself drops the body of an answer to HEAD, which the routes treat as GET
        inner = {**scope, "path": scope["path"].rstrip("/") or "/", "headers": _as_json(scope["headers"])}
        inner["method"] = "GET" if scope["method"] == "HEAD" else scope["method"]
        headers = dict(scope["headers"])
        given = headers.get(REQUEST_ID, b"")
        name = given.decode() if GIVEN_ID.fullmatch(given) else uuid.uuid4().hex
        passing = _Passing(name, time.perf_counter(), headers=headers)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                passing.status, passing.sent = message["status"], True
                more = [(REQUEST_ID, passing.id.encode())]
                if not passing.whole:  # what is still to come would be read as the next request
                    more.append((b"connection", b"close"))
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        try:
            await self._pass(inner, receive, answer, passing)
        except Refused as error:
            passing.error = error.message
            await _refuse(answer, error)
        except asyncio.CancelledError:  # the time limit of a stopping server is over
            if not passing.sent:
                passing.error = "the server is stopping"
                await _refuse(answer, Refused(UNAVAILABLE, passing.error))
        finally:
            self._note(scope, inner, passing)

    async def _pass(self, inner: Message, receive: Receive, answer: Send, passing: _Passing) -> None:
        allowed = self._keys is None or inner["path"] in OPEN or self._has_key(passing.headers)
        body = await self._body(receive, passing, keep=allowed)
        if not allowed:
            raise Refused(UNAUTHORIZED, "the key is missing or wrong; send Authorization: Bearer KEY")
        given = False

        async def once() -> Message:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": body, "more_body": False}
            return await receive()

        await self._app(inner, once, answer)

    def _has_key(self, headers: dict[bytes, bytes]) -> bool:
        """Compares with every key, in the same time whatever was sent."""
        said = headers.get(b"authorization", b"")
        sent = hashlib.sha256(said[len(BEARER) :] if said[: len(BEARER)].lower() == BEARER else b"").digest()
        found = False
        for key in self._keys or ():
            found |= hmac.compare_digest(sent, key)
        return found

    async def _body(self, receive: Receive, passing: _Passing, *, keep: bool) -> bytes:
        """The whole body.

        Raises:
            Refused: it is too large, comes too slowly, or breaks off.
        """
        headers = passing.headers
        length = headers.get(b"content-length", b"0")
        if not (int(length) or b"transfer-encoding" in headers):
            return b""
        passing.whole = False
        parts = _Parts(self)
        try:
            reading = self._read(receive, int(length), parts if keep else None)
            whole = await asyncio.wait_for(reading, self._options.body_timeout)
        except asyncio.TimeoutError as error:
            told = f"the body did not arrive within the limit of {self._options.body_timeout:g} seconds"
            raise Refused(SLOW, told) from error
        finally:
            parts.release()
        passing.whole = True
        return whole

    async def _read(self, receive: Receive, length: int, parts: _Parts | None) -> bytes:
        limit = self._options.max_body
        size, more = 0, True
        while more and size <= limit + DISCARDED:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refused(UNAVAILABLE, "the client disconnected")
            part, more = message.get("body", b""), message.get("more_body", False)
            size += len(part)
            if parts is not None and max(size, length) <= limit:
                parts.add(part)
        if max(size, length) > limit:
            raise Refused(TOO_LARGE, f"the body has {max(size, length)} bytes or more, above the limit of {limit}")
        return b"" if parts is None else b"".join(parts.kept)

    def arriving(self, size: int) -> None:
        """So many more bytes are kept of bodies that are not whole; fewer, where negative.

        Raises:
            Refused: that is more than the server keeps.
        """
        limit = BODIES * self._options.max_body
        self._arriving += size
        if size > 0 and self._arriving > limit:
            raise Refused(TOO_MANY, f"bodies of more than {limit} bytes arrive at once; try again")

    def _note(self, scope: Message, inner: Message, passing: _Passing) -> None:
        seconds = time.perf_counter() - passing.started
        route = getattr(inner.get("route"), "path", UNKNOWN)
        self._metrics.request(route, passing.status, seconds)
        if ACCESS.isEnabledFor(logging.INFO):
            told = {
                "time": time.time(), "request": passing.id, "client": (scope.get("client") or ("",))[0],
                "method": scope["method"][:20], "path": scope["path"][:200], "status": passing.status,
                "seconds": round(seconds, 6), "error": passing.error or inner.get("error", ""),
            }  # fmt: skip
            ACCESS.info(json.dumps(told))


class _Parts:
    """What arrived of a body."""

    def __init__(self, door: Door) -> None:
        self._door, self._size = door, 0
        self.kept: list[bytes] = []

    def add(self, part: bytes) -> None:
        """Keep it.

        Raises:
            Refused: too much arrives at once.
        """
        self._size += len(part)
        self.kept.append(part)
        self._door.arriving(len(part))

    def release(self) -> None:
        """It is whole, or given up."""
        self._door.arriving(-self._size)
        self._size, self.kept = 0, []


def read_keys(file: Path) -> tuple[bytes, ...]:
    """The sha256 of every key in a file, which has one a line.

    Raises:
        InputError: the file cannot be read or holds no key.
    """
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"api-key-file: {file} cannot be read: {error.strerror}; grant read access") from error
    keys = tuple(hashlib.sha256(line.strip()).digest() for line in lines if line.strip())
    if not keys:
        raise InputError(f"api-key-file: {file} holds no key; write one a line")
    return keys


async def _refuse(send: Send, error: Refused) -> None:
    content = json.dumps({"error": error.message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    if error.status == UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _as_json(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Bodies are read as JSON whatever a client calls them: `curl -d` calls them a form."""
    return [*(one for one in headers if one[0] != b"content-type"), (b"content-type", b"application/json")]
