"""A run that was killed and resumed is, bit for bit, the run that was not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from finegates_export.common.files import sha256_tree
from finegates_export.errors import OutputError, RunFolderError
from finegates_export.sources.run_folder import Run
from finegates_trainer import train
from finegates_trainer.running.reporter import Silent, StepReport
from tests.tiny import LORA, tiny_run
from tests.trainer.test_train import options


class Killed(Exception):  # noqa: N818  # stands for a signal, not for an error
    """Stops a run in the middle, as a signal would between two steps."""


class KillAt(Silent):
    def __init__(self, step: int) -> None:
        super().__init__()
        self.at = step

    def stepped(self, report: StepReport) -> None:
        if report.step == self.at:
            raise Killed


class Steps(Silent):
    """Remembers which steps were taken."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def stepped(self, report: StepReport) -> None:
        self.steps.append(report.step)


@pytest.fixture(
    scope="module",
    params=[{"layout": "coupled"}, {"layout": "matrix", "lora_dropout": 0.2}, {"objective": "sensitivity"}],
    ids=["coupled", "matrix", "sensitivity"],
)
def uninterrupted(
    request: pytest.FixtureRequest, base: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Run]:
    """Options, and the run that was trained with them in one go."""
    changes = request.param
    return changes, train(options(base, rows, tmp_path_factory.mktemp("uninterrupted") / "run", **changes))


@pytest.mark.parametrize("killed_at", [4, 13, 22])
def test_a_resumed_run_repeats_the_uninterrupted_one(
    base: Path, rows: Path, tmp_path: Path, killed_at: int, uninterrupted: tuple[dict[str, Any], Run]
) -> None:
    changes, whole = uninterrupted
    with pytest.raises(Killed):
        train(options(base, rows, tmp_path / "run", **changes), KillAt(killed_at))
    assert not (tmp_path / "run").exists()
    resumed = train(options(base, rows, tmp_path / "run", resume=True, **changes))
    assert whole.gates.keys() == resumed.gates.keys()
    assert all(torch.equal(whole.gates[name], resumed.gates[name]) for name in whole.gates)
    assert all(torch.equal(whole.head[name], resumed.head[name]) for name in whole.head)
    assert whole.info.metrics == resumed.info.metrics


def test_another_seed_gives_other_gates(base: Path, rows: Path, tmp_path: Path) -> None:
    one, other = (train(options(base, rows, tmp_path / str(seed), seed=seed)) for seed in (0, 1))
    assert any(not torch.equal(one.gates[name], other.gates[name]) for name in one.gates)


def test_resuming_with_other_options_is_refused(base: Path, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(options(base, rows, tmp_path / "run"), KillAt(8))
    with pytest.raises(RunFolderError, match=r"different target_removed.* --overwrite in place of --resume"):
        train(options(base, rows, tmp_path / "run", resume=True, target_removed=0.5))


@pytest.mark.parametrize(
    ("changed", "says"), [("data", "different rows;"), ("eval_data", "different evaluation rows;")]
)
def test_resuming_with_other_rows_in_the_same_files_is_refused(
    base: Path, rows: Path, tmp_path: Path, changed: str, says: str
) -> None:
    lines = rows.read_text(encoding="utf-8").splitlines(keepends=True)
    files = {name: tmp_path / f"{name}.tsv" for name in ("data", "eval_data")}
    for file in files.values():
        file.write_text("".join(lines), encoding="utf-8")
    asked = options(base, files["data"], tmp_path / "run", eval_data=str(files["eval_data"]))
    with pytest.raises(Killed):
        train(asked, KillAt(8))
    files[changed].write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(RunFolderError, match=f"was started with {says}"):
        train(replace(asked, resume=True))


def _change_tensor(file: Path) -> None:
    tensors = load_file(file)
    first = min(name for name in tensors if tensors[name].is_floating_point())
    save_file({**tensors, first: tensors[first] + 0.5}, file, metadata={"format": "pt"})


def _change_setting(file: Path) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), "changed": True}))


def test_resuming_on_another_base_teacher_or_adapter_is_refused(base: Path, rows: Path, tmp_path: Path) -> None:
    own, adapter = tmp_path / "base", tmp_path / "start" / "adapter"
    shutil.copytree(base, own)
    tiny_run(adapter.parent, own, "none", lora=LORA, samples=0)
    teacher = tiny_run(tmp_path / "teacher", base, "none", samples=0)
    asked = options(own, rows, tmp_path / "run", adapter=adapter, teacher=teacher, distill_logits=1.0, lora_rank=3)
    with pytest.raises(Killed):
        train(asked, KillAt(8))
    begun = sha256_tree(tmp_path / "run.training")
    changes: dict[Path, tuple[str, Callable[[Path], None]]] = {
        own / "model.safetensors": ("base", _change_tensor),
        own / "tokenizer_config.json": ("base", _change_setting),
        own / "config.json": ("base", _change_setting),
        adapter / "adapter_model.safetensors": ("adapter", _change_tensor),
        teacher / "run.json": ("teacher", lambda file: file.write_text(file.read_text() + "\n")),
    }
    for file, (says, change) in changes.items():
        sound = file.read_bytes()
        change(file)
        with pytest.raises(RunFolderError, match=f"started with different content of {says}; give the same"):
            train(replace(asked, resume=True))
        file.write_bytes(sound)
    assert sha256_tree(tmp_path / "run.training") == begun
    assert train(replace(asked, resume=True)).info.steps


def test_resuming_a_finished_run_changes_nothing(base: Path, rows: Path, tmp_path: Path) -> None:
    train(options(base, rows, tmp_path / "run"))
    before = (tmp_path / "run" / "run.json").read_bytes()
    train(options(base, rows, tmp_path / "run", resume=True))
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_what_stands_at_out_is_given_back_only_where_it_was_asked_for(base: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(options(base, rows, out))
    with pytest.raises(RunFolderError, match=r"already exists, trained with target_removed 0\.\d+ instead of 0\.5"):
        train(options(base, rows, out, resume=True, target_removed=0.5))
    with pytest.raises(Killed):
        train(options(base, rows, out, overwrite=True, target_removed=0.5), KillAt(13))
    seen = Steps()
    resumed = train(options(base, rows, out, resume=True, overwrite=True, target_removed=0.5), seen)
    assert min(seen.steps) > 1, "it went on where it was killed"
    assert resumed.info.options["target_removed"] == 0.5
    assert not (tmp_path / "run.training").exists()


def test_an_interrupted_run_is_not_thrown_away_unasked(base: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(Killed):
        train(options(base, rows, out), KillAt(8))
    before = sha256_tree(tmp_path / "run.training")
    with pytest.raises(OutputError, match=r"holds an interrupted run; pass --resume .* or --overwrite"):
        train(options(base, rows, out))
    with pytest.raises(ValueError, match="class-weights"):
        train(options(base, rows, out, overwrite=True, class_weights="a,b"))
    assert sha256_tree(tmp_path / "run.training") == before
    train(options(base, rows, out, overwrite=True))
    assert not (tmp_path / "run.training").exists()


def test_a_checkpoint_that_cannot_be_read_is_replaced_as_its_message_says(
    base: Path, rows: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "run.training" / "checkpoint.safetensors"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"half a checkpoint")
    with pytest.raises(RunFolderError, match=r"cannot be read .*; --overwrite in place of --resume starts again"):
        train(options(base, rows, tmp_path / "run", resume=True))
    assert checkpoint.read_bytes() == b"half a checkpoint"
    train(options(base, rows, tmp_path / "run", overwrite=True))
    assert not checkpoint.parent.exists()


def test_what_a_killed_write_left_is_no_other_file(base: Path, rows: Path, tmp_path: Path) -> None:
    begun = tmp_path / "run.training" / ".checkpoint.safetensors.partial"
    begun.parent.mkdir()
    begun.write_bytes(b"half a che")
    train(options(base, rows, tmp_path / "run"))
    assert not begun.parent.exists()


def test_a_folder_of_the_same_name_that_is_no_run_s_is_left_alone(base: Path, rows: Path, tmp_path: Path) -> None:
    notes = tmp_path / "run.training" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="holds other files; move them elsewhere"):
            train(options(base, rows, tmp_path / "run", overwrite=overwrite))
    assert notes.read_text() == "mine"
