"""A disk that fills up in the middle of writing leaves nothing, and says so in one line."""

from __future__ import annotations

import contextlib
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from finegates_export import ExportOptions, export
from finegates_export.errors import OutputError
from finegates_export.pruning.shrunk_folder import load_torch, save_torch
from tests.tiny import tiny_run


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("disk") / "run", base, "coupled", samples=4)


@contextlib.contextmanager
def _full_after(count: int) -> Iterator[None]:
    """No file may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.onnx", "bundle"])
def test_writing_that_fails_half_way_leaves_nothing(run: Path, tmp_path: Path, name: str) -> None:
    with _full_after(20_000), pytest.raises(OutputError, match=r"cannot write .*nothing was left behind"):
        export(ExportOptions(ckpt=run, out=tmp_path / name))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_tensors_that_do_not_fit_are_told_the_same_way(run: Path, tmp_path: Path) -> None:
    export(ExportOptions(ckpt=run, out=tmp_path / "bundle", torch=True))
    model = load_torch(tmp_path / "bundle" / "torch")
    with _full_after(20_000), pytest.raises(OutputError, match=r"cannot write .*model\.safetensors.*Free space"):
        save_torch(model, tmp_path / "tuned")
    assert {path.name for path in tmp_path.iterdir()} == {"bundle"}


@pytest.mark.slow
def test_what_a_killed_process_had_moved_aside_is_back_and_then_replaced(run: Path, tmp_path: Path) -> None:
    aside, options = tmp_path / ".bundle.old", ExportOptions(ckpt=run, out=tmp_path / "bundle")
    aside.mkdir()
    (aside / "bundle.json").write_bytes(b"an earlier bundle")
    with pytest.raises(OutputError, match="already exists"):
        export(options)
    assert (tmp_path / "bundle" / "bundle.json").read_bytes() == b"an earlier bundle"
    export(replace(options, overwrite=True))
    assert {path.name for path in tmp_path.iterdir()} == {"bundle"}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_report_that_cannot_be_printed_fails_without_a_traceback_of_ours(run: Path) -> None:
    command = [sys.executable, "-m", "finegates_export", "--ckpt", str(run), "--plan-only"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode != 0
