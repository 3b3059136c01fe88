"""A run that was killed and resumed is, bit for bit, the run that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from finegates_export.errors import RunFolderError
from finegates_trainer import train
from finegates_trainer.reporter import Silent, StepReport
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


@pytest.mark.parametrize("killed_at", [4, 13, 22])
@pytest.mark.parametrize(
    "changes",
    [{"layout": "coupled"}, {"layout": "matrix", "lora_dropout": 0.2}, {"objective": "sensitivity"}],
    ids=["coupled", "matrix", "sensitivity"],
)
def test_a_resumed_run_repeats_the_uninterrupted_one(
    base: Path, rows: Path, tmp_path: Path, killed_at: int, changes: dict[str, Any]
) -> None:
    whole = train(options(base, rows, tmp_path / "whole", **changes))
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
    with pytest.raises(RunFolderError, match="other target_removed"):
        train(options(base, rows, tmp_path / "run", resume=True, target_removed=0.5))


def test_resuming_a_finished_run_changes_nothing(base: Path, rows: Path, tmp_path: Path) -> None:
    train(options(base, rows, tmp_path / "run"))
    before = (tmp_path / "run" / "run.json").read_bytes()
    train(options(base, rows, tmp_path / "run", resume=True))
    assert (tmp_path / "run" / "run.json").read_bytes() == before
