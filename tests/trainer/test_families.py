"""Every way through the gates trains and settles: fused linears, rotary pairs, gated networks, the residual width."""

from __future__ import annotations

from pathlib import Path

import pytest

from finegates_export.errors import UnsupportedError
from finegates_export.fold import fold
from finegates_export.gates.assemble import assemble, base_of
from finegates_export.gates.settle import Widths
from finegates_export.planner import make_plan
from finegates_trainer import TrainOptions, train
from tests.tiny import tiny_base


def options(base: Path, rows: Path, out: Path, **changes: object) -> TrainOptions:
    settings = {"max_steps": 20, "batch_size": 8, "max_length": 24, "lora_rank": 2, "target_removed": 0.4}
    return TrainOptions(base=str(base), data=str(rows), out=out, **{**settings, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("width_gate", [False, True], ids=["units", "width"])
@pytest.mark.parametrize("variant", ["roberta", "electra", "modernbert", "deberta-v3"])
def test_a_family_is_settled_at_the_share_that_the_plan_removes(
    variant: str, width_gate: bool, rows: Path, tmp_path: Path
) -> None:
    base = tiny_base(tmp_path / "base", variant, intermediate=96)
    # A gate learning rate that closes some of the width within so few steps.
    run = train(options(base, rows, tmp_path / "run", width_gate=width_gate, gate_learning_rate=0.2))
    assert run.info.removed == pytest.approx(0.4, abs=0.01)
    assembled = assemble(run, base_of(run))
    plan = make_plan(fold(assembled.gated), assembled.structure, Widths())
    assert plan.removed == pytest.approx(run.info.removed, abs=1e-6)
    assert plan.padding_weights == 0
    assert ("width" in run.gates) == width_gate
    assert (plan.residual_width < 32) == width_gate


def test_a_width_that_cannot_be_gated_is_refused_before_training(rows: Path, tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", "deberta-own")
    with pytest.raises(UnsupportedError, match="read without a norm"):
        train(options(base, rows, tmp_path / "run", width_gate=True))
    assert not (tmp_path / "run").exists()


def test_a_width_gate_needs_the_coupled_layout(rows: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="width-gate: needs the layout coupled, not matrix"):
        options(tmp_path, rows, tmp_path / "run", layout="matrix", width_gate=True)
