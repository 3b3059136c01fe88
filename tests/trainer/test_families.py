"""Every way through the gates trains and settles: fused linears, rotary pairs, gated networks, the residual width."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from finegates_export.common.files import write_json
from finegates_export.errors import UnsupportedError
from finegates_export.pruning.fold import fold
from finegates_export.pruning.planner import make_plan
from finegates_export.pruning.widths import Widths
from finegates_export.sources.assemble import assemble, base_of
from finegates_export.sources.base import find_base
from finegates_trainer import TrainOptions, train
from tests.tiny import tiny_base


def options(base: Path, rows: Path, out: Path, **changes: object) -> TrainOptions:
    settings = {"max_steps": 20, "batch_size": 8, "max_length": 24, "lora_rank": 2, "target_removed": 0.4}
    return TrainOptions(base=str(base), data=str(rows), out=out, **{**settings, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("variant", "width_gate"),
    [
        *product(["roberta", "electra", "modernbert", "deberta-v3"], [False, True]),
        *product(["qwen2", "qwen3", "gpt2"], [False]),
    ],
)
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


@pytest.mark.parametrize("variant", ["llama", "gpt2"])
def test_a_decoder_without_a_padding_token_reads_the_last_token_before_its_end_tokens(
    variant: str, rows: Path, tmp_path: Path
) -> None:
    base = tiny_base(tmp_path / "base", variant)
    for name, changes in (
        ("config.json", {"pad_token_id": None}),
        ("tokenizer_config.json", {"pad_token": None, "eos_token": "[SEP]"}),
    ):
        values = json.loads((base / name).read_text(encoding="utf-8"))
        write_json(base / name, {**values, **changes})
    run = train(options(base, rows, tmp_path / "run"))
    model: Any = fold(assemble(run, base_of(run)).gated)
    tokenizer = find_base(str(base)).preprocessor("classification")
    assert model.config.pad_token_id == tokenizer.pad_token_id == tokenizer.convert_tokens_to_ids("[SEP]")
    texts = ["a great film", "awful"]
    together = _logits(model, tokenizer(texts, padding=True, return_tensors="pt"))
    alone = torch.cat([_logits(model, tokenizer([text], return_tensors="pt")) for text in texts])
    assert (together - alone).abs().max() < 1e-5
    model.config.pad_token_id = 0
    assert (_logits(model, tokenizer(texts, padding=True, return_tensors="pt")) - alone).abs().max() > 1e-2


@torch.no_grad()
def _logits(model: Any, encoded: Any) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]).logits
    return logits


def test_a_width_that_cannot_be_gated_is_refused_before_training(rows: Path, tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", "deberta-own")
    with pytest.raises(UnsupportedError, match="read without a norm"):
        train(options(base, rows, tmp_path / "run", width_gate=True))
    assert not (tmp_path / "run").exists()


def test_a_width_gate_needs_the_coupled_layout(rows: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="width-gate: needs --layout coupled, not matrix"):
        options(tmp_path, rows, tmp_path / "run", layout="matrix", width_gate=True)
