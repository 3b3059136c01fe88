"""Counts the assertions that hold, over all workers of pytest-xdist, and prints their number: `--count-assertions`.

A test that was changed into one that checks nothing still passes; the number tells. pytest calls the hook because of
`enable_assertion_pass_hook` in pyproject.toml.
"""

from __future__ import annotations

from typing import Any

import pytest

COUNT = "assertions"
"""What a worker calls its number when it hands it over."""


class AssertionCount:
    """A plugin for one session: in each worker, and in the process that started them."""

    def __init__(self) -> None:
        self.count = 0

    def pytest_assertion_pass(self) -> None:
        """One more."""
        self.count += 1

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker is done. One that crashed has told nothing, and its tests have failed."""
        self.count += getattr(node, "workeroutput", {}).get(COUNT, 0)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """In a worker, hand the number over."""
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput[COUNT] = self.count

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The line that the option asks for."""
        terminalreporter.write_line(f"assertions run: {self.count}")
