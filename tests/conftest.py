"""Shared by all tests: one thread a worker, no network, quiet libraries."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
warnings.filterwarnings("ignore", category=FutureWarning)


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
