"""What lies at --out: only an earlier result of the same command is replaced, and never what is read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finegates_bench import BenchOptions, TableOptions, cost_table, measure
from finegates_export import ExportOptions, export
from finegates_export.common.files import check_destination, sha256_tree
from finegates_export.deploy.triton import TritonOptions, write_repository
from finegates_export.errors import OutputError
from finegates_export.pipeline.export import check_place
from finegates_export.pipeline.export_many import export_many
from finegates_export.pruning.shrunk_folder import load_torch, save_torch
from finegates_trainer import TrainOptions, train
from tests.tiny import tiny_run


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("destinations") / "run", base, "coupled", samples=4)


@pytest.fixture
def runs(run: Path, tmp_path: Path) -> Path:
    """A folder with a run, and with something else beside it."""
    shutil.copytree(run, tmp_path / "runs" / "a")
    (tmp_path / "runs" / "notes.txt").write_text("mine")
    return tmp_path / "runs"


def _export(out: Path, runs: Path) -> None:
    export(ExportOptions(ckpt=runs / "a", out=out, overwrite=True))


def _export_many(out: Path, runs: Path) -> None:
    export_many([ExportOptions(ckpt=runs / "a", out=out, overwrite=True)])


def _serve(out: Path, runs: Path) -> None:
    write_repository(TritonOptions(bundle=runs / "a", out=out, overwrite=True))


def _train(out: Path, runs: Path) -> None:
    train(TrainOptions(base=str(runs / "a"), data=str(runs), out=out, overwrite=True))


def _measure(out: Path, runs: Path) -> None:
    measure(BenchOptions(ckpt=runs / "a", out=out, overwrite=True))


def _table(out: Path, runs: Path) -> None:
    cost_table(TableOptions(base=str(runs / "a"), out=out, overwrite=True))


VERBS: dict[str, Callable[[Path, Path], Any]] = {
    "export": _export,
    "export many": _export_many,
    "serve": _serve,
    "train": _train,
    "measure": _measure,
    "table": _table,
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS.keys())
@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("runs", r"holds no .*, so this command did not write it"),
        ("runs/notes.txt", "is a file, but this writes a folder"),
        ("runs/a", r"holds no .*, so this command did not write it|is or contains .*, which is an input"),
    ],
)
def test_overwriting_takes_no_folder_that_holds_something_else(
    runs: Path, verb: Callable[[Path, Path], Any], place: str, told: str
) -> None:
    before = sha256_tree(runs)
    with pytest.raises(OutputError, match=told):
        verb(runs.parent / place, runs)
    assert sha256_tree(runs.parent) == {f"runs/{name}": digest for name, digest in before.items()}


@pytest.mark.slow
def test_a_saved_model_does_not_take_the_place_of_a_run(run: Path, runs: Path, tmp_path: Path) -> None:
    export(ExportOptions(ckpt=run, out=tmp_path / "bundle", torch=True))
    model = load_torch(tmp_path / "bundle" / "torch")
    with pytest.raises(OutputError, match=r"holds no shrunk\.json"):
        save_torch(model, runs / "a", overwrite=True)
    for _ in range(2):
        save_torch(model, tmp_path / "tuned", overwrite=True)


@pytest.mark.slow
def test_what_is_read_is_not_replaced_though_it_is_of_the_same_kind(run: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    export(ExportOptions(ckpt=run, out=bundle, torch=True))
    for ckpt in (bundle / "torch", bundle):
        with pytest.raises(OutputError, match="which is an input; choose another --out"):
            check_place(ExportOptions(ckpt=ckpt, out=bundle, overwrite=True))
    with pytest.raises(OutputError, match="which is an input"):
        write_repository(TritonOptions(bundle=bundle, out=bundle, overwrite=True))
    check_place(ExportOptions(ckpt=run, out=bundle, overwrite=True))
    check_place(ExportOptions(ckpt=run, out=run / "bundle", overwrite=True))


@pytest.mark.slow
def test_an_earlier_result_and_an_empty_folder_are_replaced(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    out.mkdir()
    export(ExportOptions(ckpt=run, out=out))
    before = sha256_tree(out)
    export(ExportOptions(ckpt=run, out=out, overwrite=True))
    assert sha256_tree(out).keys() == before.keys()


def test_an_empty_folder_gives_way_to_a_run_and_not_to_a_file(
    run: Path, base: Path, rows: Path, tmp_path: Path
) -> None:
    for name in ("run", "model.onnx"):
        (tmp_path / name).mkdir()
    options = TrainOptions(base=str(base), data=str(rows), out=tmp_path / "run", layout="none", max_steps=1)
    assert train(options).folder == tmp_path / "run"
    with pytest.raises(OutputError, match="already exists"):
        check_place(ExportOptions(ckpt=run, out=tmp_path / "model.onnx"))


@pytest.mark.parametrize("empty", [True, False])
def test_the_folder_one_stands_in_is_not_swapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty: bool) -> None:
    if not empty:
        (tmp_path / "bundle.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="choose a folder inside it"):
        check_destination(Path(), overwrite=True, marks=("bundle.json",))
