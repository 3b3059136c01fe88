"""The steps of a run: free, close, settled, level by level."""

from __future__ import annotations

import pytest

from finegates_trainer.learning.schedule import Schedule


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
