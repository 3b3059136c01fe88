"""The server: it listens, watches its replicas, and stops without dropping accepted requests."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from finegates_export.deploy.serving.metrics import Metrics
from finegates_export.deploy.serving.model import ServedModel
from finegates_export.deploy.serving.models import Models
from finegates_export.deploy.serving.options import ServeOptions
from finegates_export.errors import InputError, missing_extra

if TYPE_CHECKING:
    from uvicorn import Server

    from finegates_export.deploy.serving.replicas import Replicas

ACCESS = "finegates.serving.access"
IDLE_SECONDS = 75
"""Until a kept connection that asks nothing is closed."""
Ready = Callable[[tuple[ServedModel, ...], str], None]
"""Called with the models and the server's URL."""


def serve_bundles(options: ServeOptions, ready: Ready) -> None:
    """Serve until SIGTERM or Ctrl-C, then answer all accepted requests and return.

    Args:
        options: what to serve, where, and within which limits.
        ready: called once, as soon as the server answers requests.

    Raises:
        InputError: a bundle, the provider, the keys, the certificate, the address or the port cannot be used.
        UnsupportedError: a task cannot be served.
        MissingExtraError: a package of the server, or Ray where there is an address, is not installed.
        KeyboardInterrupt: stopped by Ctrl-C, after all requests were answered.
    """
    _check_packages()
    _check_tls(options)
    if options.access_log:
        _log_access()
    stopped_by = _StoppedBy()
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(contextlib.closing(_listen(options)))
        metrics, running = Metrics(), None
        if options.address:
            from finegates_export.deploy.serving.cluster.replicas import running_replicas

            running = stack.enter_context(running_replicas(options, metrics))
        _run(_serve(options, metrics, running, listening, ready, stopped_by), _Loop(options.header_timeout))
    if stopped_by.signal == signal.SIGINT:
        raise KeyboardInterrupt


class _StoppedBy:
    """Handles the two signals that stop a server; uvicorn raises them again when it has finished."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def listen(self) -> None:
        """From now on; before, the signals end the process at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: object) -> None:
        self.signal = self.signal or number


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that limits a client's handshake for HTTPS; asyncio's own gives it a minute.

    Args:
        seconds: how long it may take.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def create_server(self, *args: Any, **how: Any) -> asyncio.Server:
        """See asyncio."""
        if how.get("ssl") is not None:
            how["ssl_handshake_timeout"] = self._seconds
        return await super().create_server(*args, **how)


def _run(serving: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> None:
    """As `asyncio.run`, which takes no loop before Python 3.12."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(serving)
    finally:
        late = asyncio.all_tasks(loop)
        for task in late:  # requests past the drain: each is told so before it ends
            task.cancel()
        loop.run_until_complete(asyncio.gather(*late, return_exceptions=True))
        asyncio.set_event_loop(None)
        loop.close()


async def _serve(
    options: ServeOptions,
    metrics: Metrics,
    running: Replicas | None,
    listening: socket.socket,
    ready: Ready,
    stopped_by: _StoppedBy,
) -> None:
    models = Models(options, metrics)
    starting = asyncio.ensure_future(models.start(running))
    try:
        await asyncio.sleep(0)  # the models load while this imports
        import uvicorn

        from finegates_export.deploy.serving.application import application
        from finegates_export.deploy.serving.connections import BACKLOG, Room
        from finegates_export.deploy.serving.door import Door

        room = Room(options)
        await starting
        config = uvicorn.Config(
            Door(application(models, options, metrics), options, metrics),
            http=room.protocol(), loop="none", lifespan="off", ws="none", access_log=False, log_level="error",
            server_header=False, proxy_headers=False, backlog=BACKLOG, timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=max(1, round(options.drain)),
            ssl_certfile=options.tls_cert, ssl_keyfile=options.tls_key,
        )  # fmt: skip
        server = uvicorn.Server(config)
        stopped_by.listen()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, models.replace_all)
        url = _url(listening, secure=options.tls_cert is not None)
        beside = [
            asyncio.create_task(models.watch()),
            asyncio.create_task(_when_started(server, lambda: ready(_told(models), url))),
        ]
        await server.serve(sockets=[listening])
        for task in beside:
            task.cancel()
    finally:
        await models.close()


def _told(models: Models) -> tuple[ServedModel, ...]:
    return tuple(models.served(name).model for name in models.names())


async def _when_started(server: Server, started: Callable[[], None]) -> None:
    while not server.started:
        await asyncio.sleep(0.01)
    started()


def _url(listening: socket.socket, *, secure: bool) -> str:
    host, port = listening.getsockname()[:2]
    return f"{'https' if secure else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _log_access() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger(ACCESS)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def _check_packages() -> None:
    """Say what is missing before a model is loaded.

    Raises:
        MissingExtraError: a package of the server is not installed.
    """
    for package in ("fastapi", "uvicorn", "h11"):
        if find_spec(package) is None:
            raise missing_extra(package, "serve")


def _check_tls(options: ServeOptions) -> None:
    """Read the certificate and its key before anything starts.

    Raises:
        InputError: they cannot be read, or do not belong together.
    """
    if options.tls_cert is None or options.tls_key is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options.tls_cert, options.tls_key, lambda: "")
    except (OSError, ssl.SSLError) as error:
        told = f"tls-cert: {options.tls_cert} and {options.tls_key} cannot be used: {error}"
        raise InputError(f"{told}; give a certificate and its own key as PEM, without a password") from error


def _listen(options: ServeOptions) -> socket.socket:
    """Bind the port before anything else starts.

    Raises:
        InputError: it is in use, or may not be bound.
    """
    from finegates_export.deploy.serving.connections import BACKLOG, drop_dead_clients

    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    drop_dead_clients(listening)
    try:
        listening.bind((options.host, options.port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        why = (
            "is in use; choose another with --port" if error.errno == errno.EADDRINUSE else f"cannot be bound: {error}"
        )
        raise InputError(f"port {options.port} of {options.host} {why}") from error
    return listening
