"""A tiny bundle, and one server that most tests talk to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import finegates_export
from finegates_export.runtime import Predictor
from tests.export.conftest import Workshop, workshop
from tests.serving.running import Server, serving
from tests.tiny import LORA

__all__ = ["workshop"]

LIMITS = ("--max-body", "4000", "--max-texts", "8", "--max-characters", "500", "--queue", "64", "--replicas", "2")


@pytest.fixture(scope="session")
def bundle(workshop: Workshop) -> Path:
    return workshop.bundle(workshop.run("coupled", LORA))


@pytest.fixture(scope="session")
def predictor(bundle: Path) -> Predictor:
    return finegates_export.load(bundle, threads=1)


@pytest.fixture(scope="session")
def server(bundle: Path) -> Iterator[Server]:
    with serving(bundle, *LIMITS) as running:
        yield running
        assert running.stop() == 0
