"""What closing a gate would cost, read from gradients; the cheapest close first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finegates_export.gates.gate import OPEN_MU
from finegates_export.pruning.widths import Widths
from finegates_trainer.objectives.budget import ShareBudget
from finegates_trainer.objectives.sensitivity import PERIOD, SensitivityObjective
from finegates_trainer.running.setup import Training, prepare
from tests.trainer.test_train import options


def prepared(base: Path, rows: Path, out: Path) -> tuple[Training, SensitivityObjective]:
    training = prepare(options(base, rows, out, objective="sensitivity", lora_rank=0))
    training.gated.eval()
    return training, SensitivityObjective(training.gated.gates, ShareBudget(training.structure, Widths()))


def loss_of(training: Training) -> torch.Tensor:
    inputs, labels = training.train_rows.collate(range(32))
    return torch.nn.functional.cross_entropy(training.gated(**inputs).logits, labels)


def gather(training: Training, objective: SensitivityObjective) -> None:
    training.gated.zero_grad()
    loss_of(training).backward()
    objective.gather()


def test_units_that_do_nothing_close_first(base: Path, rows: Path, tmp_path: Path) -> None:
    training, objective = prepared(base, rows, tmp_path / "run")
    down: Any = training.gated.model.get_submodule(training.structure.layers[0].feed_forward.down)
    silent = np.arange(down.in_features) % 2 == 0
    with torch.no_grad():
        down.weight[:, torch.from_numpy(silent)] = 0.0
    gather(training, objective)
    scores = objective.scores()[0, "ffn"]
    assert scores[silent].max() < scores[~silent].min()
    neuron = training.structure.layers[0].groups()[2]
    share = silent.sum() * neuron.unit_weights * training.structure.hidden_size / training.structure.linear_weights
    keep = objective.settle(share).keep
    assert np.array_equal(keep[0, "ffn"], ~silent)
    assert all(mask.all() for key, mask in keep.items() if key != (0, "ffn"))


@pytest.mark.parametrize("value", [1.0, 0.6])
def test_the_cost_is_what_closing_changes(base: Path, rows: Path, tmp_path: Path, value: float) -> None:
    training, objective = prepared(base, rows, tmp_path / "run")
    bank = training.gated.gates
    with torch.no_grad():
        bank.mu[::2] = value - 0.5
    gather(training, objective)
    before = float(loss_of(training).detach())
    gates = torch.arange(0, len(bank), 7)
    changes = []
    for gate in gates.tolist():
        mu = bank.mu.detach().clone()
        with torch.no_grad():
            bank.mu[gate] = -1.0
            changes.append(abs(float(loss_of(training).detach()) - before))
            bank.mu.copy_(mu)
    ranks = [np.argsort(np.argsort(values)) for values in (objective.costs_N[gates].numpy(), np.array(changes))]
    assert np.corrcoef(*ranks)[0, 1] > 0.9


def test_units_close_along_the_ramp_and_stay_closed(base: Path, rows: Path, tmp_path: Path) -> None:
    training, objective = prepared(base, rows, tmp_path / "run")
    bank = training.gated.gates
    closed = torch.zeros(len(bank), dtype=torch.bool)
    for step in range(1, 5 * PERIOD + 1):
        gather(training, objective)
        aim = 0.02 * step
        objective.correct(aim)
        now = bank.values() == 0
        assert bool((now | ~closed).all())
        closed = now
        if step % PERIOD == 0:
            assert bank.closed_share() == pytest.approx(aim, abs=0.01)
    assert bool(closed.any())


def test_a_gate_that_is_further_open_than_open_would_seem_to_cost_nothing(
    base: Path, rows: Path, tmp_path: Path
) -> None:
    training, objective = prepared(base, rows, tmp_path / "run")
    bank = training.gated.gates
    with torch.no_grad():
        bank.mu.add_(0.1)
    gather(training, objective)
    assert not bool(objective.costs_N.any())
    objective.hold()
    assert float(bank.mu.detach().max()) == OPEN_MU
    gather(training, objective)
    assert bool((objective.costs_N > 0).any())
