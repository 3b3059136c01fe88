"""A speed-up to reach: expected time falls under pressure, and settling ends at what a measurement says."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig

from finegates_export.costs.grid import Grid
from finegates_export.costs.speed_probe import Anchor
from finegates_export.costs.timing.statistics import Interval
from finegates_export.errors import InputError
from finegates_export.families.bert import Bert
from finegates_export.gates.bank import GateBank
from finegates_export.gates.layout import build_layout
from finegates_export.pruning.widths import Widths
from finegates_export.sources.run_folder import read_run
from finegates_trainer import train
from finegates_trainer.objectives.interpolation import SmoothGrid, TiltedGrid
from finegates_trainer.objectives.latency import LatencyObjective
from finegates_trainer.objectives.sensitivity import SensitivityObjective
from finegates_trainer.objectives.speed_budget import CLOSE_ENOUGH, FEWEST_NEARBY, SpeedBudget, check_reachable
from tests.tiny import hasten_measurements, tiny_base
from tests.trainer.test_train import options

STRUCTURE = Bert().structure(
    BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
)
HEADS, DIMS, NEURONS = (0, 1, 4), (1, 4, 8), (0, 16, 32, 48, 64)
REST = 0.5
STAIRCASE = Grid((NEURONS,), np.array([0.0, 1.0, 1.0, 2.0, 2.0]))
"""17 to 32 neurons cost as much as 16."""


def product_grid() -> Grid:
    heads, qk, vo = np.meshgrid(HEADS, DIMS, DIMS, indexing="ij")
    return Grid((HEADS, DIMS, DIMS), 0.02 * heads * (qk + vo))


def fake_costs() -> Any:
    attention = product_grid()
    return SimpleNamespace(
        attention=attention, feed_forward=STAIRCASE, attention_ms=attention.at, feed_forward_ms=STAIRCASE.at
    )


def layers_ms(costs: Any, keep: dict[Any, Any]) -> float:
    total = 0.0
    for layer in range(2):
        qk_hd, vo_hd = keep[layer, "qk"].reshape(4, 8), keep[layer, "vo"].reshape(4, 8)
        heads = int(vo_hd.any(1).sum())
        total += float(costs.attention_ms(heads, qk_hd.sum(1).max(), vo_hd.sum(1).max()))
        total += float(costs.feed_forward_ms(keep[layer, "ffn"].sum()))
    return total


WHOLE = 2 * (0.02 * 4 * 16 + 2.0)
ANCHOR = Anchor(WHOLE + REST, REST, 1.0)


@dataclass
class FakeProbe:
    """A machine on which layers take another time than the table says."""

    costs: Any
    slower: float = 1.0
    asked: list[float] = field(default_factory=list)
    chance: float = 0.0
    """Standard deviation of what it tells, as a share."""
    spells: tuple[float, ...] = (1.0,)
    """What the machine's states make of a speed-up; one timing in each, in turns."""
    seed: int = 0

    def __post_init__(self) -> None:
        self.generator = np.random.default_rng(self.seed)

    def truth(self, keep: dict[Any, Any]) -> float:
        return (WHOLE + REST) / (REST + self.slower * layers_ms(self.costs, keep))

    def speedup(self, keep: dict[Any, Any], *, anew: bool = False) -> Interval:
        assert anew, "a timing that is only remembered tells nothing new"
        told = self.truth(keep) * (1.0 + self.chance * self.generator.standard_normal())
        told *= self.spells[len(self.asked) % len(self.spells)]
        self.asked.append(told)
        half_width = 0.005 + 2.0 * self.chance
        return Interval(told, (1.0 - half_width) * told, (1.0 + half_width) * told, 30)


def objective_of(layout: str = "coupled", slower: float = 1.0) -> LatencyObjective:
    bank = GateBank(build_layout(layout, STRUCTURE), STRUCTURE)
    with torch.no_grad():
        bank.mu.add_(torch.randn(len(bank), generator=torch.Generator().manual_seed(0)) * 0.3)
    return LatencyObjective(bank, 0.5, budget_of(slower))


def budget_of(slower: float = 1.0) -> SpeedBudget:
    costs = fake_costs()
    return SpeedBudget(STRUCTURE, Widths(), (costs, costs), ANCHOR, FakeProbe(costs, slower))  # type: ignore[arg-type]  # a fake machine


def test_the_smooth_table_is_the_table_and_has_its_slopes() -> None:
    grid = product_grid()
    smooth = SmoothGrid(grid, torch.device("cpu"))
    heads, qk, vo = (
        torch.tensor(values, requires_grad=True) for values in ([0.0, 2.5, 9.0], [3.0, 6.5, 8.0], [1.0, 5.0, 2.0])
    )
    given = smooth(heads, qk, vo)
    expected = grid.at(*(values.detach().numpy() for values in (heads, qk, vo)))
    assert given.detach().numpy() == pytest.approx(expected, abs=1e-6)
    given.sum().backward()
    assert heads.grad is not None
    assert heads.grad.tolist() == pytest.approx([0.02 * 4.0, 0.02 * 11.5, 0.0], abs=1e-6)


def test_a_tilted_table_slopes_on_the_steps_and_is_the_table_at_its_ends() -> None:
    exact, tilted = (kind(STAIRCASE, torch.device("cpu")) for kind in (SmoothGrid, TiltedGrid))
    slopes = []
    for table in (exact, tilted):
        neurons = torch.tensor([24.0, 56.0], requires_grad=True)
        table(neurons).sum().backward()
        assert neurons.grad is not None
        slopes.append(neurons.grad.tolist())
    assert slopes[0] == [0.0, 0.0]
    assert min(slopes[1]) > 0.0
    ends = torch.tensor([0.0, 64.0])
    assert torch.equal(exact(ends), tilted(ends))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["coupled", "matrix"])
def test_pressure_alone_brings_the_time_down_to_the_aim(layout: str) -> None:
    objective = objective_of(layout)
    optimizer = torch.optim.AdamW([objective.bank.mu], lr=0.02, weight_decay=0.0)
    shares = []
    for step in range(400):
        aim = min(0.5, step / 200 * 0.5)
        objective.penalty(aim).backward()
        optimizer.step()
        optimizer.zero_grad()
        objective.correct(aim)
        shares.append(objective.evaluated_time_share())
    assert shares[0] > 0.9
    assert shares[-1] == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("slower", [1.0, 1.3, 0.8])
def test_settling_ends_at_the_measured_speedup_whatever_the_table_says(slower: float) -> None:
    objective = objective_of(slower=slower)
    settlement = objective.settle(0.5)
    told = settlement.facts["speedup"]
    probe: Any = objective.budget.probe
    assert told["measured"] == pytest.approx(2.0, rel=0.03)
    assert told["measured"] == pytest.approx(probe.truth(settlement.keep)), "what is kept was itself measured"
    assert told["expected"] == pytest.approx(2.0, rel=0.02)
    assert told["asked"] == pytest.approx(2.0)
    if slower != 1.0:
        assert abs(probe.asked[0] / 2.0 - 1.0) > CLOSE_ENOUGH
        assert len(probe.asked) > 1


@pytest.mark.slow
def test_chance_in_the_timings_averages_out() -> None:
    chance, errors = 0.02, []
    for seed in range(40):
        objective = objective_of()
        probe = FakeProbe(objective.budget.costs[0], chance=chance, seed=seed)
        objective.budget.probe = probe  # type: ignore[assignment]  # a fake machine
        errors.append(probe.truth(objective.settle(0.5).keep) / 2.0 - 1.0)
        assert len(probe.asked) >= FEWEST_NEARBY, "one timing settles nothing"
    assert np.sqrt(np.mean(np.square(errors))) < 0.6 * chance
    assert abs(np.mean(errors)) < 0.25 * chance


@pytest.mark.parametrize("spells", [(0.94, 1.06), (1.06, 0.94), (0.94, 0.94, 1.06, 1.06)])
def test_a_machine_of_two_states_is_asked_until_both_have_told(spells: tuple[float, ...]) -> None:
    objective = objective_of()
    probe = FakeProbe(objective.budget.costs[0], spells=spells)
    objective.budget.probe = probe  # type: ignore[assignment]  # a fake machine
    settlement = objective.settle(0.5)
    told = settlement.facts["speedup"]
    assert len(probe.asked) == told["timings"] > 3
    assert probe.truth(settlement.keep) == pytest.approx(2.0, rel=0.015), "the mean of both, not the last one"
    assert told["expected"] == pytest.approx(2.0, rel=0.015)
    assert told["expected_within"] > 0.02, "and it does not claim to know better than its timings agree"


def test_what_costs_least_closes_within_the_time_too() -> None:
    budget = budget_of(slower=1.3)
    bank = GateBank(build_layout("coupled", STRUCTURE), STRUCTURE)
    objective = SensitivityObjective(bank, budget)
    objective.costs_N = torch.rand(len(bank), generator=torch.Generator().manual_seed(0))
    for step in range(1, 41):
        objective.correct(0.4 * step / 40)
    units = bank.unit_products(bank.values().detach())
    by_table = layers_ms(budget.costs[0], {key: open_units.numpy() > 0 for key, open_units in units.items()})
    assert (REST + by_table) / (REST + WHOLE) == pytest.approx(0.6, abs=0.05)
    assert objective.settle(0.5).facts["speedup"]["measured"] == pytest.approx(2.0, rel=0.03)


def test_a_flat_stretch_of_the_staircase_is_filled() -> None:
    keep = objective_of().settle(0.4).keep
    for layer in range(2):
        neurons = int(keep[layer, "ffn"].sum())
        assert neurons in (0, 32, 64), "a width was left that costs as much as a wider one"


def test_it_goes_on_from_its_state() -> None:
    first, second = objective_of(), objective_of()
    for _ in range(5):
        first.penalty(0.5)
        first.correct(0.5)
    second.budget.anchor = Anchor(1.0, 0.1, 2.0)
    second.restore(first.state())
    assert second.budget.anchor == first.budget.anchor
    assert float(second.penalty(0.5).detach()) == float(first.penalty(0.5).detach())


def test_a_speedup_out_of_reach_is_refused_with_the_fastest() -> None:
    fastest = (WHOLE + REST) / REST
    check_reachable(ANCHOR, (1.5, 0.9 * fastest), "8x128")
    with pytest.raises(InputError, match=rf"target-speedup: 100x cannot be reached at 8x128.* {fastest:.2f}x"):
        check_reachable(ANCHOR, (1.5, 100.0), "8x128")


@pytest.mark.exhaustive
def test_a_run_reaches_its_speedups_level_by_level(rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hasten_measurements(monkeypatch, tmp_path)
    base = tiny_base(tmp_path / "base", layers=6)
    told = options(
        base, rows, tmp_path / "run", target_speedup=(1.1, 1.3), shape="4x20", max_steps=20, threads=1, max_length=20
    )
    run = train(told)
    levels = [read_run(level) for level in run.levels()]
    assert [level.folder.name for level in levels] == ["1.10x", "1.30x"]
    assert [level.info.settled["speedup"]["asked"] for level in levels] == [pytest.approx(1.1), pytest.approx(1.3)]
    assert levels[0].info.removed <= levels[1].info.removed
    for level in levels:
        measured = level.info.settled["speedup"]
        assert measured["low"] <= measured["measured"] <= measured["high"]
    with pytest.raises(InputError, match="target-speedup: 1000x cannot be reached at 4x20"):
        train(options(base, rows, tmp_path / "other", target_speedup=(1000.0,), shape="4x20", threads=1))
