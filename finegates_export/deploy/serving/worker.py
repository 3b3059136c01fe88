"""What a worker process does: it loads one copy of a model and answers batches until its server ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from multiprocessing import parent_process
from pathlib import Path

from finegates_export.deploy.serving.model import Answer, Replica, ServedModel, Text
from finegates_export.deploy.serving.options import ServeOptions

IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that also reach the workers where they are sent to the group; the server alone decides when workers end."""
_replica: list[Replica] = []
"""The process's one copy."""


def prepare() -> None:
    """First of all: ignore the server's signals, and end with the server however it ends."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_server, daemon=True).start()


def start(bundle: Path, options: ServeOptions, name: str) -> tuple[ServedModel, int]:
    """Load the model.

    Returns:
        what clients are told, and this process.

    Raises:
        InputError: see `Replica`.
        UnsupportedError: the same.
    """
    _replica[:] = [Replica(bundle, options, name)]
    return _replica[0].model, os.getpid()


def answers(texts: Sequence[Text]) -> list[Answer]:
    """One answer per text."""
    return _replica[0].answers(texts)


def _end_with_server() -> None:
    server = parent_process()
    if server is not None:
        server.join()
        os._exit(1)  # the pool's main thread waits for work that nobody sends any more
