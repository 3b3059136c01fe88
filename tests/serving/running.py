"""A server in a process of its own, and a client for it, both with what Python has."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

import psutil

SECONDS = 60
COMMAND = [sys.executable, "-m", "finegates_export.deploy.serving.cli"]


class Said(NamedTuple):
    """A response."""

    status: int
    body: Any
    headers: dict[str, str]


class Server:
    """A running server.

    Args:
        process: of the command.
        url: where it listens.
    """

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url = process, url
        self.address = urlsplit(url).netloc

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Said:
        """One request on a connection of its own; what is neither bytes nor an iterable of them goes as JSON."""
        connection = http.client.HTTPConnection(self.address, timeout=SECONDS)
        raw = body is None or isinstance(body, bytes) or hasattr(body, "__next__")
        try:
            connection.request(method, path, body if raw else json.dumps(body), headers)
            response = connection.getresponse()
            content, told = response.read(), dict(response.getheaders())
        finally:
            connection.close()
        is_json = told.get("content-type") == "application/json" and method != "HEAD"
        return Said(response.status, json.loads(content) if is_json else content, told)

    def get(self, path: str) -> Said:
        return self.send("GET", path)

    def post(self, path: str, body: Any) -> Said:
        return self.send("POST", path, body)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = self.get("/metrics").body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].split(" ")[0] == name)

    def replicas(self) -> list[psutil.Process]:
        """The processes of its replicas."""
        return replicas_below(psutil.Process(self.process.pid))

    def stop(self, number: int = signal.SIGTERM, *, group: bool = False) -> int:
        """Its exit status after a signal, to it alone or to all of its group."""
        if group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        return self.process.wait(SECONDS)


def replicas_below(process: psutil.Process) -> list[psutil.Process]:
    """The replicas among the processes that this one started, itself or through others."""
    found = []
    for below in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it ended meanwhile
            told = " ".join(below.cmdline())
            if "ServeReplica" in told or "--multiprocessing-fork" in told:
                found.append(below)
    return found


def eventually(condition: Callable[[], bool]) -> None:
    """Ask until it is so."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it never became so"


@contextmanager
def serving(
    bundle: Path,
    *options: str,
    folder: Path | None = None,
    errors: IO[str] | None = None,
    before: Sequence[str] = (),
    group: bool = False,
) -> Iterator[Server]:
    """A server on a free port, ready to answer.

    Args:
        bundle: the first bundle.
        options: further words of the command.
        folder: where it starts.
        errors: where its stderr goes.
        before: a command that starts it.
        group: whether it leads a group of its own.
    """
    command = [*before, *COMMAND, str(bundle), *options, "--port", "0", "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=folder, start_new_session=group
    )
    assert process.stdout is not None
    try:
        yield Server(process, json.loads(_first_object(process.stdout))["url"])
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(SECONDS)
        process.stdout.close()


def _first_object(lines: Iterable[str]) -> str:
    """What a command prints with --json, up to the line that closes it."""
    said = []
    for line in lines:
        said.append(line)
        if line == "}\n":
            break
    return "".join(said)
