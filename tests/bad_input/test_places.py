"""`--out` holds the old or the new at every moment, links are followed, and nothing that is read is removed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finegates_export import ExportOptions
from finegates_export.common import files
from finegates_export.common.exchange import exchange
from finegates_export.common.files import check_destination, staged_file, staged_folder
from finegates_export.errors import OutputError
from finegates_export.pipeline.export import check_place
from finegates_trainer import TrainOptions, train
from tests.tiny import tiny_run

MARKS = ("bundle.json",)
REPLACE = """
import os, sys
from pathlib import Path

from finegates_export.common import files

out, stop, swaps = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "swaps"
calls = 0

def counted(real):
    def act(*arguments, **more):
        global calls
        calls += 1
        if calls == stop:
            os._exit(9)
        return real(*arguments, **more)
    return act

files.exchange = counted(files.exchange) if swaps else (lambda one, other: False)
with files.staged_folder(out, overwrite=True, marks=("bundle.json",)) as stage:
    (stage / "bundle.json").write_text("new")
    os.rename, files._remove = counted(os.rename), counted(files._remove)
"""
"""Replaces a folder, and dies at one of the steps that put the new one into place."""


def _bundle(path: Path, content: str = "old") -> Path:
    path.mkdir(parents=True)
    (path / "bundle.json").write_text(content)
    return path


def _content(path: Path) -> str:
    return (path / "bundle.json").read_text()


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a file system may have no exchange")
def test_this_machine_exchanges_names_and_says_when_a_name_is_missing(tmp_path: Path) -> None:
    one, other = _bundle(tmp_path / "one", "1"), _bundle(tmp_path / "other", "2")
    assert exchange(one, other)
    assert (_content(one), _content(other)) == ("2", "1")
    with pytest.raises(FileNotFoundError):
        exchange(one, tmp_path / "missing")


@pytest.mark.parametrize(("way", "steps"), [("swaps", 2), ("renames", 4)])
def test_a_process_that_dies_while_it_replaces_leaves_the_old_or_the_new(tmp_path: Path, way: str, steps: int) -> None:
    for stop in range(1, steps + 1):
        out = _bundle(tmp_path / str(stop) / "bundle")
        done = subprocess.run([sys.executable, "-c", REPLACE, str(out), str(stop), way], check=False, timeout=60)
        assert done.returncode == 9, f"it ends before step {stop}"
        if way == "swaps":
            assert _content(out) in ("old", "new")
        with pytest.raises(OutputError, match="already exists"):
            check_destination(out, overwrite=False, marks=MARKS)
        assert _content(out) in ("old", "new"), "the next command puts back what it finds"
        with staged_folder(out, overwrite=True, marks=MARKS) as stage:
            (stage / "bundle.json").write_text("newest")
        assert _content(out) == "newest"
        assert _names(out.parent) == {"bundle"}


def test_a_rename_that_fails_puts_the_old_result_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, real = _bundle(tmp_path / "bundle"), Path.rename

    def fails(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise OSError(5, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(files, "exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OutputError, match="Input/output error"), staged_folder(out, overwrite=True) as stage:
        (stage / "bundle.json").write_text("new")
    assert _content(out) == "old"
    assert _names(tmp_path) == {"bundle"}


@pytest.mark.parametrize("standing", [True, False])
def test_a_link_at_the_destination_is_followed_and_stays(tmp_path: Path, standing: bool) -> None:
    target, link = tmp_path / "store" / "bundle-3", tmp_path / "latest"
    if standing:
        _bundle(target)
    link.symlink_to(target)
    check_destination(link, overwrite=standing, marks=MARKS)
    with staged_folder(link, overwrite=standing, marks=MARKS) as stage:
        (stage / "bundle.json").write_text("new")
    with staged_file(tmp_path / "graph.onnx", overwrite=False) as file:
        file.write_text("graph")
    assert link.is_symlink()
    assert _content(target) == "new"
    assert _names(tmp_path) == {"store", "latest", "graph.onnx"}
    assert _names(target.parent) == {"bundle-3"}


def test_links_in_a_circle_are_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OutputError, match="leads in a circle; remove it, or choose another --out"):
        check_destination(tmp_path / "a", overwrite=True, marks=MARKS)


def _link_to(place: Path, inside: str) -> Path:
    place.symlink_to(inside)
    return place


READS: dict[str, Any] = {
    "itself": lambda out: out,
    "a file inside": lambda out: out / "bundle.json",
    "a link to it": lambda out: _link_to(out.parent / "link", str(out)),
    "a link inside it that leads out": lambda out: _link_to(out / "link", str(_bundle(out.parent / "other"))),
    "a folder of links into it": lambda out: _link_to(_bundle(out.parent / "links") / "it", str(out / "a")).parent,
    "what a killed process moved aside": lambda out: _bundle(out.parent / ".bundle.old"),
    "what a killed process had begun": lambda out: _bundle(out.parent / ".bundle.partial"),
    "what the work removes": lambda out: _bundle(out.parent / "work" / "levels"),
}  # fmt: skip


@pytest.mark.parametrize("name", READS)
def test_what_is_read_is_never_in_the_way(tmp_path: Path, name: str) -> None:
    out = _bundle(tmp_path / "bundle")
    source, removes = READS[name](out), (tmp_path / "work",)
    beside = _bundle(tmp_path / "beside")
    check_destination(out, overwrite=True, marks=MARKS, reads=[beside, None, "org/name", "x" * 5000], removes=removes)
    with pytest.raises(OutputError, match="which is an input; choose another --out"):
        check_destination(out, overwrite=True, marks=MARKS, reads=[source], removes=removes)
    assert source.exists()


def test_the_base_that_a_run_names_is_not_replaced_by_its_export(base: Path, tmp_path: Path) -> None:
    inside = tmp_path / "bundle" / "base"
    shutil.copytree(base, inside)
    (tmp_path / "bundle" / "bundle.json").write_text("{}")
    run = tiny_run(tmp_path / "run", inside, "none")
    with pytest.raises(OutputError, match="which is an input"):
        check_place(ExportOptions(ckpt=run, out=tmp_path / "bundle", overwrite=True))
    check_place(ExportOptions(ckpt=run, out=tmp_path / "other"))


@pytest.mark.parametrize("option", ["data", "eval_data", "adapter", "teacher", "base"])
@pytest.mark.parametrize("how", [{"overwrite": True}, {"resume": True}])
def test_training_keeps_what_it_reads_in_its_working_folder(tmp_path: Path, option: str, how: dict[str, bool]) -> None:
    source = tmp_path / "run.training" / "levels" / "0.20"
    _bundle(source)
    reads: dict[str, Any] = {"base": "base", "data": "rows", option: str(source)}
    reads |= {name: Path(reads[name]) for name in ("adapter", "teacher") if name in reads}
    with pytest.raises(OutputError, match=r"cannot be written without .*run\.training"):
        train(TrainOptions(**reads, out=tmp_path / "run", **how))
    assert _content(source) == "old"


@pytest.mark.parametrize("kind", ["link", "file", "link inside"])
def test_a_working_folder_that_is_none_of_ours_is_refused_before_any_work(tmp_path: Path, kind: str) -> None:
    work, other = tmp_path / "run.training", _bundle(tmp_path / "other")
    if kind == "link":
        work.symlink_to(other)
    elif kind == "file":
        work.write_text("notes")
    else:
        work.mkdir()
        (work / "levels").symlink_to(other)
    with pytest.raises(OutputError, match="is needed"):
        train(TrainOptions(base="base", data="rows", out=tmp_path / "run", overwrite=True))
    assert _content(other) == "old"
