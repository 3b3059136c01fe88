"""The server that the documentation starts, and the requests that it sends to it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.serving.running import Server, serving

DEFAULT = "localhost:8000"


class DocumentedServer:
    """Runs `finegates-serve` in the background, on a port that is free, and `curl` against it.

    Args:
        stack: stops the server when it is closed.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._server: Server | None = None

    def run(self, words: list[str]) -> None:
        """One line of a page."""
        if words[0] == "finegates-serve":
            self._server = self._stack.enter_context(serving(*words[1:]))
            return
        assert self._server is not None, f"no server to ask: {words}"
        asked = [word.replace(DEFAULT, self._server.address) for word in words]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        assert done.stdout.startswith("{"), f"{words}: {done.stdout}"


@contextmanager
def documented_server() -> Iterator[DocumentedServer]:
    """One for all pages."""
    with ExitStack() as stack:
        yield DocumentedServer(stack)
