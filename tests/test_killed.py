"""SIGKILL at random moments: afterwards the output is absent or whole, and the same command succeeds.

Processes are forked from a server that has the heavy imports done, so that a moment falls into the work itself.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finegates_export.runtime.bundle_files import read_bundle
from finegates_export.sources.run_folder import read_run
from tests.tiers import tiered
from tests.tiny import tiny_run

MOMENTS = {"train": 9, "export": 7, "bench": 4}
"""20 in all."""
PRELOADED = ["torch", "transformers", "peft", "onnx", "onnxscript", "onnxruntime", "finegates_trainer.running.training"]


def do_train(base: Path, rows: Path, _run: Path, out: Path) -> None:
    import torch

    from finegates_trainer import train
    from tests.trainer.test_train import options

    torch.set_num_threads(1)
    train(options(base, rows, out, overwrite=True))


def do_export(_base: Path, _rows: Path, run: Path, out: Path) -> None:
    import torch

    from finegates_export import ExportOptions, export

    torch.set_num_threads(1)
    export(ExportOptions(ckpt=run, out=out, overwrite=True, threads=1))


def do_bench(_base: Path, _rows: Path, run: Path, out: Path) -> None:
    import torch

    from finegates_bench import BenchOptions, measure, report

    torch.set_num_threads(1)
    options = BenchOptions(
        ckpt=run, out=out, shapes=("1x8",), rounds=5, seconds=0.1, processes=1, threads=1, overwrite=True
    )
    report(measure(options), out, overwrite=True)


def check_run(out: Path) -> None:
    read_run(out)


def check_bundle(out: Path) -> None:
    assert read_bundle(out)["graphs"]


def check_report(out: Path) -> None:
    assert {"report.json", "report.md", "index.html"} <= {file.name for file in out.iterdir()}


WORK: dict[str, tuple[Callable[..., None], Callable[[Path], None]]] = {
    "train": (do_train, check_run),
    "export": (do_export, check_bundle),
    "bench": (do_bench, check_report),
}


@pytest.fixture(scope="module")
def server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("killed") / "run", base, "coupled", samples=4)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", tiered(WORK, default=("train",)))
def test_killed_at_a_random_moment_the_output_is_absent_or_whole(
    name: str, base: Path, rows: Path, run: Path, tmp_path: Path, server: Any
) -> None:
    act, check = WORK[name]
    out = tmp_path / "out"
    started = time.monotonic()
    assert _work(server, act, base, rows, run, out).exitcode == 0
    whole = time.monotonic() - started
    check(out)
    generator = np.random.default_rng(2024)
    killed = 0
    for _ in range(MOMENTS[name]):
        process = _start(server, act, base, rows, run, out)
        process.join(generator.uniform(0.05, 0.95) * whole)
        killed += process.is_alive()
        process.kill()
        process.join()
        if out.exists():
            check(out)
    assert killed, "no process was alive when it was to be killed"
    assert _work(server, act, base, rows, run, out).exitcode == 0
    check(out)
    left = {path.name for path in tmp_path.iterdir()} - {"out"}
    assert not left, f"left beside the output: {left}"


def _start(server: Any, act: Callable[..., None], *arguments: Path) -> Any:
    process = server.Process(target=act, args=arguments)
    process.start()
    return process


def _work(server: Any, act: Callable[..., None], *arguments: Path) -> Any:
    process = _start(server, act, *arguments)
    process.join()
    return process
