"""The loss over the next tokens: the value and the gradients of the plain formula, whatever is computed at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from finegates_export.common.tasks import NO_LABEL
from finegates_export.gates.gated_model import GatedModel
from finegates_export.sources.base import find_base
from finegates_trainer.learning import next_tokens
from finegates_trainer.learning.losses import TaskLoss
from finegates_trainer.learning.metrics import compute_metrics
from finegates_trainer.learning.next_tokens import NextTokens, postpone_head
from finegates_trainer.learning.predictions import predictions_of
from tests.trainer.decoders import decoder_base

ROWS, TOKENS = 5, 7


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return decoder_base(tmp_path_factory.mktemp("decoder") / "base", request.param, tied=False)


def gated_model(home: Path) -> GatedModel:
    base = find_base(str(home))
    return GatedModel(base.load("text-generation", ()), base.family().structure(base.config()), "coupled").eval()


def batch() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Rows of different lengths, not all of whose tokens are learned."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(4, 30, (ROWS, TOKENS), generator=generator)
    mask = (torch.arange(TOKENS) <= torch.arange(ROWS)[:, None] + 2).long()
    learned = mask.bool() & (torch.rand(ROWS, TOKENS, generator=generator) < 0.7)
    labels = torch.where(learned, torch.randint(4, 30, (ROWS, TOKENS), generator=generator), NO_LABEL)
    return {"input_ids": ids, "attention_mask": mask}, labels


def plain_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=NO_LABEL)


def gradients(gated: GatedModel, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    gated.zero_grad()
    loss.backward()
    return {name: one.grad.clone() for name, one in gated.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("at_once", [1, 3, 1000])
@pytest.mark.parametrize("train_head", [False, True])
def test_value_and_gradients_are_those_of_the_plain_formula(
    home: Path, monkeypatch: pytest.MonkeyPatch, at_once: int, train_head: bool
) -> None:
    inputs, labels = batch()
    whole, late = gated_model(home), gated_model(home)
    for gated in (whole, late):
        gated.model.requires_grad_(False)
        gated.model.lm_head.requires_grad_(train_head)  # type: ignore[union-attr, operator]  # a model of transformers
    expected = plain_loss(whole(**inputs).logits, labels)
    postpone_head(late)
    monkeypatch.setattr(next_tokens, "LOGITS_AT_ONCE", at_once * 64)
    found = TaskLoss("text-generation")(late(**inputs), labels)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    wanted, got = gradients(whole, expected), gradients(late, 3 * found)
    assert wanted.keys() == got.keys()
    assert ("model.lm_head.weight" in got) == train_head
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], 3 * gradient, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(
        got["gates.mu"], gradients(late, TaskLoss("text-generation")(late(**inputs), labels.flip(0)))["gates.mu"]
    )


def test_a_batch_without_labels_costs_nothing(home: Path) -> None:
    gated = gated_model(home)
    postpone_head(gated)
    inputs, labels = batch()
    loss = TaskLoss("text-generation")(gated(**inputs), torch.full_like(labels, NO_LABEL))
    assert float(loss.detach()) == 0.0
    assert not any(bool(one.any()) for one in gradients(gated, loss).values())


def test_logits_exist_for_labelled_tokens_and_a_part_of_them_at_a_time(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated = gated_model(home)
    postpone_head(gated)
    inputs, labels = batch()
    outputs: NextTokens = gated(**inputs)
    sizes: list[int] = []
    head = type(outputs.head).forward
    monkeypatch.setattr(outputs.head, "forward", lambda hidden: sizes.append(len(hidden)) or head(outputs.head, hidden))
    monkeypatch.setattr(next_tokens, "LOGITS_AT_ONCE", 4 * 64)
    TaskLoss("text-generation")(outputs, labels)
    assert max(sizes) == 4
    assert sum(sizes) == int((labels != NO_LABEL).sum()) < ROWS * TOKENS


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing_that_is_learned(home: Path, side: str) -> None:
    gated = gated_model(home)
    postpone_head(gated)
    inputs, labels = batch()
    expected = TaskLoss("text-generation")(gated(**inputs), labels.where(inputs["attention_mask"].bool(), NO_LABEL))
    ends = inputs["attention_mask"].sum(1).tolist()
    more = TOKENS + 3

    def moved(tensor: torch.Tensor, filler: int) -> torch.Tensor:
        rows = torch.full((ROWS, more), filler)
        for row, end in enumerate(ends):
            start = more - end if side == "left" else 0
            rows[row, start : start + end] = tensor[row, :end]
        return rows

    mask = moved(inputs["attention_mask"], 0)
    told: dict[str, Any] = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)} if side == "left" else {}
    padded = {"input_ids": moved(inputs["input_ids"], 3), "attention_mask": mask, **told}
    found = TaskLoss("text-generation")(gated(**padded), moved(labels, NO_LABEL))
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    unmasked = {**padded, "attention_mask": torch.ones_like(mask)}
    if side == "left":
        wrong = TaskLoss("text-generation")(gated(**unmasked), moved(labels, NO_LABEL))
        assert float(wrong.detach()) != pytest.approx(float(expected.detach()), rel=1e-3)


def test_perplexity_and_accuracy_are_the_same_from_hidden_states_and_from_logits(home: Path) -> None:
    inputs, labels = batch()
    with torch.no_grad():
        logits = gated_model(home)(**inputs).logits
        gated = gated_model(home)
        postpone_head(gated)
        from_hidden = gated(**inputs).predictions(labels)
    from_logits = predictions_of("text-generation", {"logits": logits.numpy()}, None, labels=labels)
    truth = [row[: 4 + i % 3].tolist() for i, row in enumerate(labels)]
    one, other = (compute_metrics("text-generation", found, truth) for found in (from_hidden, from_logits))
    assert one == pytest.approx(other)
    kept = labels.clone()
    for i, row in enumerate(truth):
        kept[i, len(row) :] = NO_LABEL
    assert one["perplexity"] == pytest.approx(float(plain_loss(logits, kept).exp()), rel=1e-5)
    known = kept != NO_LABEL
    assert one["accuracy"] == pytest.approx(float((logits.argmax(-1) == kept)[known].float().mean()))
