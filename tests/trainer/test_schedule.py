"""The steps of a run: free, close, settled, level by level; and the pressure that follows them."""

from __future__ import annotations

import pytest
import torch

from finegates_export.families.bert import Bert
from finegates_export.gates.bank import GateBank
from finegates_export.gates.layout import build_layout
from finegates_trainer.pressure import Pressure
from finegates_trainer.schedule import Schedule


def test_one_level_goes_free_close_settled_and_reaches_its_aim() -> None:
    schedule = Schedule((0.4,), 100, free_fraction=0.1, settle_fraction=0.4, warmup=0.1)
    names = [schedule.phase(step).name for step in range(100)]
    assert names == ["free"] * 10 + ["close"] * 50 + ["settled"] * 40
    aims = [schedule.phase(step).aim for step in range(100)]
    assert aims == sorted(aims)
    assert schedule.phase(59).aim == pytest.approx(0.4)
    assert schedule.settle_step(0) == 60


def test_levels_walk_up_without_going_back() -> None:
    schedule = Schedule((0.2, 0.5, 0.8), 300, free_fraction=0.1, settle_fraction=0.5, warmup=0.0)
    aims = [schedule.phase(step).aim for step in range(300)]
    assert aims == sorted(aims)
    assert [aims[schedule.end(level) - 1] for level in range(3)] == [0.2, 0.5, 0.8]
    assert {schedule.phase(schedule.settle_step(level)).name for level in range(3)} == {"settled"}


def test_without_gates_everything_is_one_settled_stretch() -> None:
    schedule = Schedule((), 50, 0.1, 0.4, 0.1)
    assert {schedule.phase(step).name for step in range(50)} == {"settled"}
    assert schedule.phase(49).aim == 0.0


def test_the_learning_rate_rises_falls_and_starts_again_with_a_level() -> None:
    schedule = Schedule((0.2, 0.4), 200, 0.1, 0.4, warmup=0.1)
    rates = [schedule.learning_rate_factor(step) for step in range(200)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == 1.0
    assert rates[99] < 0.05
    assert rates[110] > 0.9


@pytest.mark.parametrize("layout", ["coupled", "matrix"])
def test_pressure_alone_closes_the_share_that_it_aims_for(layout: str) -> None:
    from transformers import BertConfig

    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    structure = Bert().structure(config)
    bank = GateBank(build_layout(layout, structure), structure)
    with torch.no_grad():
        bank.mu.add_(torch.randn(len(bank), generator=torch.Generator().manual_seed(0)) * 0.3)
    pressure = Pressure(sigma=0.5)
    optimizer = torch.optim.AdamW([bank.mu], lr=0.02, weight_decay=0.0)
    for step in range(400):
        aim = min(0.4, step / 200 * 0.4)
        pressure.penalty(bank, aim).backward()
        optimizer.step()
        optimizer.zero_grad()
        pressure.correct(bank.closed_share(), aim)
    assert bank.closed_share() == pytest.approx(0.4, abs=0.08)
