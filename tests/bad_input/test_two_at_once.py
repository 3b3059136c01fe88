"""Two processes that write one result: the second is told, or waits; a claim ends with its process."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from finegates_export import ExportOptions, export
from finegates_export.common.files import claimed, scratch_folder, staged_file, staged_folder
from finegates_export.errors import OutputError
from finegates_trainer import train
from tests.tiny import tiny_run
from tests.trainer.test_train import options

TOLD = "run is being written by another process; wait for it to finish, or choose another --out"


HOLD = """
import sys
from pathlib import Path

from finegates_export.common.files import claimed

with claimed(Path(sys.argv[1]), Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


class Other:
    """Another process, at work on something."""

    def __init__(self, work: Path) -> None:
        command = [sys.executable, "-c", HOLD, str(work)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n"

    def end(self) -> None:
        self.process.communicate()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def at_run(tmp_path: Path) -> Iterator[Other]:
    other = Other(tmp_path / "run.training")
    yield other
    if other.process.poll() is None:
        other.end()


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_another_process_trains_is_left_alone(
    base: Path, rows: Path, tmp_path: Path, at_run: Other, resume: bool
) -> None:
    begun = tmp_path / "run.training" / "checkpoint.safetensors"
    begun.parent.mkdir()
    begun.write_bytes(b"the other's")
    with pytest.raises(OutputError, match=TOLD):
        train(options(base, rows, tmp_path / "run", resume=resume, overwrite=True))
    assert begun.read_bytes() == b"the other's"
    at_run.end()
    train(options(base, rows, tmp_path / "run", overwrite=True))
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


@pytest.mark.slow
def test_an_export_that_another_process_writes_is_left_alone(base: Path, tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "tiny", base, "coupled", samples=4)
    out = tmp_path / "to" / "run"
    out.parent.mkdir()
    other = Other(out.parent / ".run.scratch")
    begun = out.parent / ".run.scratch" / "model.onnx"
    begun.parent.mkdir()
    begun.write_bytes(b"the other's")
    with pytest.raises(OutputError, match=TOLD):
        export(ExportOptions(ckpt=run, out=out))
    assert begun.read_bytes() == b"the other's"
    other.end()
    export(ExportOptions(ckpt=run, out=out))
    assert {path.name for path in out.parent.iterdir()} == {"run"}


def test_a_claim_ends_with_a_killed_process(tmp_path: Path) -> None:
    other = Other(tmp_path / "work")
    other.kill()
    with claimed(tmp_path / "work", tmp_path / "run"):
        assert (tmp_path / "work.lock").exists()
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("stage", [scratch_folder, lambda path: staged_folder(path, overwrite=True)])
def test_a_folder_is_staged_by_one(tmp_path: Path, stage: Any) -> None:
    with stage(tmp_path / "run") as folder:
        (folder / "whole").touch()
        with pytest.raises(OutputError, match=TOLD), stage(tmp_path / "run"):
            pytest.fail("two may not be in it")
        assert (folder / "whole").exists()
    with stage(tmp_path / "run") as folder:
        assert not any(folder.iterdir())


def test_a_file_is_staged_by_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"

    def write_second() -> None:
        with staged_file(path, overwrite=True) as stage:
            stage.write_text(f"second, after {path.read_text()}")

    with staged_file(path, overwrite=False) as stage:
        second = _waiting(write_second)
        stage.write_text("first")
    second.join()
    assert path.read_text() == "second, after first"
    assert {one.name for one in tmp_path.iterdir()} == {"costs.json"}


def test_a_file_that_came_while_one_waited_is_not_replaced_unasked(tmp_path: Path) -> None:
    path, told = tmp_path / "costs.json", []

    def write_second() -> None:
        try:
            with staged_file(path, overwrite=False) as stage:
                stage.write_text("second")
        except OutputError as error:
            told.append(str(error))

    with staged_file(path, overwrite=False) as stage:
        second = _waiting(write_second)
        stage.write_text("first")
    second.join()
    assert "already exists; pass --overwrite" in told[0]
    assert path.read_text() == "first"


def _waiting(act: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive(), "it should wait"
    return thread
