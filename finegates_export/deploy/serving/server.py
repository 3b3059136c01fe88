"""The server: it listens, watches its replicas, and stops without dropping accepted requests."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from finegates_export.deploy.serving.application import Application
from finegates_export.deploy.serving.batches import Batches
from finegates_export.deploy.serving.metrics import Metrics
from finegates_export.deploy.serving.model import ServedModel, check_served
from finegates_export.deploy.serving.options import ServeOptions
from finegates_export.deploy.serving.replicas import WATCH_SECONDS, Replicas, running_replicas
from finegates_export.errors import InputError

if TYPE_CHECKING:
    from uvicorn import Server

LOG = logging.getLogger("finegates.serving")
BACKLOG = 2048
IDLE_SECONDS = 75


def serve_bundle(options: ServeOptions, ready: Callable[[ServedModel, str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C, then answer all accepted requests and return.

    Args:
        options: what to serve, where, and within which limits.
        ready: called once with the model and the server's URL, as soon as it answers requests.

    Raises:
        InputError: the bundle, the provider, the address or the port cannot be used.
        UnsupportedError: the task cannot be served.
        MissingExtraError: Ray is not installed.
        KeyboardInterrupt: stopped by Ctrl-C, after all requests were answered.
    """
    model = check_served(options)
    with contextlib.closing(_listen(options)) as listening:
        metrics = Metrics()
        with running_replicas(options, f"finegates-{model.name}", metrics) as replicas:
            stopped_by = _StoppedBy()
            host, port = listening.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            batches = Batches(replicas.ask, options, metrics)
            application = Application(model, batches, options, metrics)
            asyncio.run(
                _serve(
                    application, batches, replicas, options, listening, lambda: ready(model, f"http://{shown}:{port}")
                )
            )
    if stopped_by.signal == signal.SIGINT:
        raise KeyboardInterrupt


class _StoppedBy:
    """Handles the two signals that stop a server; uvicorn raises them again when it has finished."""

    def __init__(self) -> None:
        self.signal: int | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: object) -> None:
        self.signal = self.signal or number


async def _serve(
    application: Application,
    batches: Batches,
    replicas: Replicas,
    options: ServeOptions,
    listening: socket.socket,
    started: Callable[[], None],
) -> None:
    import uvicorn

    config = uvicorn.Config(
        application,
        lifespan="off",
        ws="none",
        access_log=False,
        log_level="error",
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=max(1, round(options.drain)),
    )
    server = uvicorn.Server(config)
    stopped = threading.Event()
    # a daemon: if Ray itself is gone, the call never returns, and must not block the exit
    watching = threading.Thread(target=_watch, args=(replicas, batches, stopped), daemon=True)
    watching.start()
    telling = asyncio.create_task(_when_started(server, started))
    try:
        await server.serve(sockets=[listening])
    finally:
        stopped.set()
        telling.cancel()


async def _when_started(server: Server, started: Callable[[], None]) -> None:
    while not server.started:
        await asyncio.sleep(0.01)
    started()


def _watch(replicas: Replicas, batches: Batches, stopped: threading.Event) -> None:
    """Update the number of replicas that can answer."""
    while not stopped.wait(WATCH_SECONDS):
        try:
            batches.replicas = replicas.count()
        except Exception as error:  # noqa: BLE001  # a controller that restarts must not end the watch
            LOG.warning("cannot count the replicas: %s", error)


def _listen(options: ServeOptions) -> socket.socket:
    """Bind the port before anything else starts.

    Raises:
        InputError: it is in use, or may not be bound.
    """
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
