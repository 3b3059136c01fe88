"""Bases, runs and bundles that are made once and read by every test, in every worker of pytest-xdist."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from finegates_export.gates.adapter import LoraSettings
from finegates_export.pipeline.export import export
from finegates_export.pipeline.options import ExportOptions
from tests.tiny import tiny_base, tiny_run

logging.getLogger("torch.__trace").propagate = False  # thousands of records an export, which pytest would keep
torch.set_num_threads(1)  # the models are tiny and the workers of xdist share the processor


class Workshop:
    """Makes folders by name, each once.

    Args:
        root: a folder that all workers share.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def base(self, **options: Any) -> Path:
        """A base of `tiny_base`."""
        return self.make(_name("base", options), lambda folder: tiny_base(folder, **options))

    def run(
        self,
        layout: str,
        lora: LoraSettings | None = None,
        gates: Mapping[str, float] | None = None,
        samples: int = 24,
        task: str | None = None,
        width: bool = False,
        **base: Any,
    ) -> Path:
        """A run of `tiny_run`."""
        own = {"task": task, "lora": lora, "gates": gates, "samples": samples, "width": width}
        name = _name("run", {"layout": layout, **own, **base})
        home = self.base(**base)
        return self.make(name, lambda folder: tiny_run(folder, home, layout, **own))

    def bundle(self, run: Path, **options: Any) -> Path:
        """The bundle of a run."""
        name = _name(f"bundle {run.name}", options)
        # Measuring takes seconds, and a busy machine may decide otherwise.
        settings = {"gathers": "never", "int8_linears": "all", **options}
        return self.make(name, lambda out: export(ExportOptions(ckpt=run, out=out, threads=1, **settings)))

    def make(self, name: str, build: Callable[[Path], Any]) -> Path:
        """Anything else: `build` gets the path to make."""
        folder = self.root / name
        with _locked(self.root / f"{name}.lock"):
            if not folder.exists():
                partial = self.root / f"{name}.building"
                shutil.rmtree(partial, ignore_errors=True)
                build(partial)
                partial.rename(folder)
        return folder


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """One for the whole session, all workers included."""
    own = tmp_path_factory.getbasetemp()
    root = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "workshop"
    root.mkdir(exist_ok=True)
    return Workshop(root)


def bundle_info(bundle: Path) -> dict[str, Any]:
    """The content of a bundle's `bundle.json`."""
    return json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))


def _name(kind: str, options: Mapping[str, Any]) -> str:
    words = [f"{key}-{value}" for key, value in options.items() if value is not None]
    spelled = "_".join([kind, *words])
    readable = "".join(letter if letter.isalnum() or letter in "-_." else "." for letter in spelled)[:100]
    return f"{readable}-{hashlib.sha256(spelled.encode()).hexdigest()[:12]}"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
