"""Sites of tiny models, made once, and a stand-in for what npm installs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finegates_export import ExportOptions, export
from finegates_export.deploy.web.libraries import FILES, ONNXRUNTIME, TRANSFORMERS
from tests.export.conftest import Workshop, workshop
from tests.tiny import LORA
from tests.web.browser import INSTALLED, need_browser

__all__ = ["workshop"]

LENIENT = {"min_agreement": 0.5, "max_metric_loss": 100.0}
"""A tiny random model decides by a hair."""
VERSIONS = {TRANSFORMERS: "4.3.1", ONNXRUNTIME: "1.31.0"}


def stand_in(node_modules: Path, **versions: str) -> Path:
    """A folder with every file that the page needs, each with its own name in it."""
    for package, files in FILES.items():
        folder = node_modules / package
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"{package} {name}", encoding="utf-8")
        told = {"version": {**VERSIONS, **versions}[package], "license": "MIT"}
        (folder / "package.json").write_text(json.dumps(told), encoding="utf-8")
    return node_modules


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in."""
    return stand_in(tmp_path_factory.mktemp("npm") / "node_modules")


@pytest.fixture(scope="session")
def run(workshop: Workshop) -> Path:
    """A gated run."""
    return workshop.run("coupled", LORA)


@pytest.fixture(scope="session")
def unpruned(workshop: Workshop) -> Path:
    """A run without gates on the same base, with another head: no answer of the one passes for the other's."""
    return workshop.run("none")


def site_of(workshop: Workshop, name: str, run: Path, **options: Any) -> Path:
    """A folder for the browser, made once."""
    settings = {"target": "web", "threads": 1, **LENIENT, **options}
    return workshop.make(name, lambda out: export(ExportOptions(ckpt=run, out=out, **settings)))


@pytest.fixture(scope="session")
def site(workshop: Workshop, run: Path, unpruned: Path, node_modules: Path) -> Path:
    """What is exported with everything for the page, its libraries stood in for."""
    return site_of(workshop, "site", run, baseline=unpruned, web_libraries=node_modules)


@pytest.fixture(scope="session")
def real_libraries() -> Path:
    """What npm installed; a test is skipped where it did not."""
    need_browser()
    return INSTALLED / "node_modules"


@pytest.fixture(scope="session")
def real_site(workshop: Workshop, run: Path, unpruned: Path, real_libraries: Path) -> Path:
    """The same with the real libraries."""
    return site_of(workshop, "real site", run, baseline=unpruned, web_libraries=real_libraries)
