"""What presses gates shut reaches what it aims for, by itself and in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finegates_export.families.bert import Bert
from finegates_export.gates.bank import GateBank
from finegates_export.gates.gate import open_probability
from finegates_export.gates.layout import build_layout
from finegates_export.pruning.magnitude import magnitude_scores
from finegates_export.pruning.widths import Widths
from finegates_export.sources.run_folder import read_run
from finegates_trainer import TrainOptions, train
from finegates_trainer.objectives.penalty import PenaltyObjective
from finegates_trainer.objectives.share import ShareObjective
from finegates_trainer.objectives.target import TargetObjective
from finegates_trainer.running.make_objective import make_objective
from finegates_trainer.running.setup import Training, prepare
from tests.trainer.test_train import options

STEPS = 400
LAYOUTS = ["coupled", "matrix"]


def bank_of(layout: str) -> GateBank:
    from transformers import BertConfig

    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    structure = Bert().structure(config)
    bank = GateBank(build_layout(layout, structure), structure)
    with torch.no_grad():
        bank.mu.add_(torch.randn(len(bank), generator=torch.Generator().manual_seed(0)) * 0.3)
    return bank


def head_width(training: Training) -> int:
    return next(group.width for group in training.structure.groups() if group.kind == "vo")


def press(objective: Any, bank: GateBank, aim: float, steps: int = STEPS) -> None:
    optimizer = torch.optim.AdamW([bank.mu], lr=0.02, weight_decay=0.0)
    for step in range(steps):
        now = min(aim, step / (steps / 2) * aim)
        objective.penalty(now).backward()
        optimizer.step()
        optimizer.zero_grad()
        objective.correct(now)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["share", "target"])
def test_pressure_alone_closes_the_share_that_it_aims_for(layout: str, kind: str) -> None:
    bank = bank_of(layout)
    common = (bank, bank.structure, Widths(), 0.5)
    objective = ShareObjective(*common) if kind == "share" else TargetObjective(*common, 50.0)
    press(objective, bank, 0.4)
    assert bank.closed_share() == pytest.approx(0.4, abs=0.08)


def test_without_its_correction_the_target_closes_another_share() -> None:
    bank = bank_of("matrix")
    objective = TargetObjective(bank, bank.structure, Widths(), 0.5, 50.0)
    objective.correct = lambda aim: None  # type: ignore[method-assign]
    press(objective, bank, 0.4)
    assert abs(bank.closed_share() - 0.4) > 0.08


@pytest.mark.parametrize("kind", ["share", "target"])
def test_an_objective_goes_on_from_its_state(kind: str) -> None:
    bank = bank_of("coupled")
    common = (bank, bank.structure, Widths(), 0.5)
    make = (lambda: ShareObjective(*common)) if kind == "share" else (lambda: TargetObjective(*common, 50.0))
    first, second, fresh = make(), make(), make()
    press(first, bank, 0.4, steps=30)
    second.restore(first.state())
    assert float(second.penalty(0.4).detach()) == float(first.penalty(0.4).detach())
    assert float(fresh.penalty(0.4).detach()) != pytest.approx(float(second.penalty(0.4).detach()))


def test_the_penalty_is_the_papers_and_closes_more_the_more_it_weighs() -> None:
    shares = []
    for weight in (0.5, 5.0):
        bank = bank_of("matrix")
        objective = PenaltyObjective(bank, bank.structure, Widths(), 0.5, weight)
        expected = weight * open_probability(bank.mu, 0.5).mean()
        assert float(objective.penalty(0.9).detach()) == pytest.approx(float(expected.detach()))
        pull = torch.randn(len(bank), generator=torch.Generator().manual_seed(1)).abs() * 2e-3
        optimizer = torch.optim.SGD([bank.mu], lr=1.0)
        for _ in range(STEPS):
            (objective.penalty(0.0) - (pull * bank.mu).sum()).backward()
            optimizer.step()
            optimizer.zero_grad()
        shares.append(bank.closed_share())
    assert shares[0] < shares[1]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"objective": "target"}, 0.4),
        ({"objective": "target", "layout": "matrix"}, 0.4),
        ({"objective": "magnitude"}, 0.4),
        ({"objective": "sensitivity"}, 0.4),
        ({"objective": "sensitivity", "layout": "matrix"}, 0.4),
        ({"objective": "penalty", "penalty_weight": 0.01}, None),
    ],
    ids=["target", "target, matrix", "magnitude", "sensitivity", "sensitivity, matrix", "penalty"],
)
def test_every_objective_trains_a_run(
    base: Path, rows: Path, tmp_path: Path, changes: dict[str, Any], wanted: float | None
) -> None:
    run = train(options(base, rows, tmp_path / "run", **changes))
    if wanted is not None:
        assert run.info.removed == pytest.approx(wanted, abs=0.01)
    assert run.info.options["objective"] == changes["objective"]
    assert (run.info.trained_parameters["gates"] == 0) == (changes["objective"] == "magnitude")


def test_magnitude_counts_the_adapter_and_leaves_the_weights_as_they_were(
    base: Path, rows: Path, tmp_path: Path
) -> None:
    from finegates_trainer.objectives.magnitude import MagnitudeObjective

    training = prepare(options(base, rows, tmp_path / "run", objective="magnitude"))
    model: Any = training.gated.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    objective = MagnitudeObjective(training.gated, Widths())
    plain = objective.settle(0.5).keep
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name and "intermediate" in name:
                parameter[: len(parameter) // 2] = 30.0
    adapted = objective.settle(0.5).keep
    kept = adapted[0, "ffn"]
    assert kept[: len(kept) // 2].sum() > kept[len(kept) // 2 :].sum()
    assert not np.array_equal(kept, plain[0, "ffn"])


def test_magnitudes_rank_units_by_all_their_weights(base: Path, rows: Path, tmp_path: Path) -> None:
    training = prepare(options(base, rows, tmp_path / "run", layout="none", lora_rank=0))
    structure, model = training.structure, training.gated.model
    up = model.get_submodule(structure.layers[0].feed_forward.up.linear)
    with torch.no_grad():
        up.weight[5] *= 100.0
    assert int(magnitude_scores(model, structure)[0, "ffn"].argmax()) == 5


@pytest.mark.parametrize("objective", ["magnitude", "sensitivity"])
def test_levels_by_a_ranking_walk_up_without_reopening(base: Path, rows: Path, tmp_path: Path, objective: str) -> None:
    # Of this base's weights a whole head is 6 %; portable lets it go in part.
    changes: Any = {"objective": objective, "levels": (0.2, 0.5), "max_steps": 40, "target": "portable"}
    run = train(options(base, rows, tmp_path / "run", **changes))
    first, last = (read_run(level) for level in run.levels())
    assert (first.info.removed, last.info.removed) == (pytest.approx(0.2, abs=0.01), pytest.approx(0.5, abs=0.01))
    assert all(bool(((last.gates[name] <= -0.5) | (mu > -0.5)).all()) for name, mu in first.gates.items())


@pytest.mark.parametrize(
    ("changes", "whole"),
    [
        ({"target": "ort-cpu"}, True),
        ({"target": "web"}, True),
        ({"target": "portable"}, False),
        ({"target": "ort-cpu", "layout": "matrix"}, False),
    ],
)
def test_heads_stay_whole_where_the_target_multiplies_whole_strips(
    base: Path, rows: Path, tmp_path: Path, changes: dict[str, Any], whole: bool
) -> None:
    training = prepare(options(base, rows, tmp_path / "run", **changes))
    objective: Any = make_objective(training, lambda measure: measure())
    generator = np.random.default_rng(0)
    with torch.no_grad():
        training.gated.gates.mu.sub_(torch.from_numpy(generator.random(len(training.gated.gates))))
    keep = objective.settle(0.4).keep
    heads = [keep[group.layer, group.kind].reshape(group.heads, -1) for group in training.structure.groups()]
    widths = {int(width) for head in heads if len(head) > 1 for width in head.sum(1)}
    assert (widths <= {0, head_width(training)}) == whole


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"objective": "speed"}, "objective"),
        ({"objective": "penalty", "levels": (0.2, 0.4)}, "levels"),
        ({"objective": "magnitude", "penalty_weight": 3.0}, "penalty-weight"),
        ({"objective": "target", "penalty_weight": 0.0}, "penalty-weight"),
        ({"target_speedup": (2.0, 1.5)}, "target-speedup"),
        ({"target_speedup": (0.9,)}, "target-speedup"),
        ({"target_speedup": (2.0,), "levels": (0.4,)}, "target-speedup"),
        ({"target_speedup": (2.0,), "width_gate": True}, "width-gate"),
        ({"target_speedup": (2.0,), "objective": "target"}, "objective"),
        ({"target_speedup": (2.0,), "layout": "none"}, "target-speedup"),
        ({"objective": "sensitivity", "width_gate": True}, "width-gate"),
        ({"objective": "sensitivity", "penalty_weight": 3.0}, "penalty-weight"),
        ({"shape": "8 by 128"}, "shape"),
        ({"train_base": True}, "train-base"),
        ({"distill_hidden": -1.0}, "distill-hidden"),
        ({"distill_temperature": 0.0}, "distill-temperature"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together_are_refused_by_name(
    base: Path, rows: Path, tmp_path: Path, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValueError, match=f"^{field}"):
        TrainOptions(base=str(base), data=str(rows), out=tmp_path / "run", **changes)
