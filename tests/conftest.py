"""Shared by all tests: the tiers, one thread a worker, no network, quiet libraries."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from tests.assertion_count import AssertionCount
from tests.tiers import LEFT_OUT, left_out

FOLDERS = [folder.parent.name for folder in Path(__file__).parent.glob("*/__init__.py")]

# Helpers assert too: pytest then tells the values of what failed, and counts what held.
pytest.register_assert_rewrite(*(f"tests.{name}" for name in FOLDERS))

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
warnings.filterwarnings("ignore", category=FutureWarning)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The tier, and whether to count."""
    parser.addoption("--tier", choices=LEFT_OUT, default="all", help="run this part of the tests (see tests/tiers.py)")
    parser.addoption("--count-assertions", action="store_true", help="print how many assertions have run")


def pytest_configure(config: pytest.Config) -> None:
    """Count only where asked to, since every assertion then takes a call."""
    if config.getoption("--count-assertions"):
        config.pluginmanager.register(AssertionCount())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the tier omits."""
    tier = config.getoption("--tier")
    omitted = [item for item in items if left_out((mark.name for mark in item.iter_markers()), tier)]
    if omitted:
        config.hook.pytest_deselected(items=omitted)
        gone = set(omitted)
        items[:] = [item for item in items if item not in gone]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Workers share the machine's cores; a tiny model gains nothing from two."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base, every parameter redrawn; one layer, for the tests that need a model and not its depth."""
    from tests.tiny import tiny_base

    return tiny_base(tmp_path_factory.mktemp("base") / "base", layers=1, intermediate=96)


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled TSV."""
    from tests.tiny import tiny_rows

    return tiny_rows(tmp_path_factory.mktemp("rows"))
