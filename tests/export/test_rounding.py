"""A float32 link that misses its limit by rounding is held to float64, as the gated model itself is; a fault is not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from finegates_export.errors import ChainError
from finegates_export.pipeline.export import export
from finegates_export.pipeline.options import ExportOptions
from finegates_export.verification.chain import Chain
from finegates_export.verification.link import Tolerances
from finegates_export.verification.report import chain_table
from tests.export.test_chain import inputs_for, model_form
from tests.tiers import tiered
from tests.tiny import LORA, tiny_run, tiny_tokenizer
from tests.tiny_models import stored_model

MAGNIFIED = 30.0


def moved(by, seed=None):
    """The model with outputs that far from what it computes exactly, one way or both."""

    def form(inputs):
        outputs = {name: array.astype(np.float64) for name, array in model_form(inputs).items()}
        signs = np.random.default_rng(seed) if seed is not None else None
        for name, array in outputs.items():
            side = 1.0 if signs is None else signs.choice([-1.0, 1.0], array.shape)
            outputs[name] = array + by * np.abs(array).max() * side
        return outputs

    return form


def chain_from(gated, precise=True):
    chain = Chain("classification", inputs_for(None), Tolerances())
    chain.set_reference(gated, (lambda: moved(0.0)) if precise else None)
    return chain


@pytest.mark.parametrize(
    ("gated", "link"),
    [(2e-4, 3e-4), (6e-5, 9e-5), (3e-4, 9e-4)],
    ids=["both miss", "both hold", "far, as the model is"],
)
def test_what_rounding_explains_is_accepted_and_told(gated, link):
    with pytest.raises(ChainError, match="differs from the gated model by"):
        chain_from(moved(gated, 1), precise=False).add("folded", moved(link, 2))
    chain = chain_from(moved(gated, 1))
    added = chain.add("folded", moved(link, 2))
    assert added.gated_rounding == pytest.approx(gated, rel=0.5)
    assert added.relative <= link * 1.01
    assert "float64" in chain_table(chain.links)


@pytest.mark.parametrize(
    ("gated", "link"),
    [(1e-5, 5e-4), (2e-4, 1.2e-3), (1.2e-3, 1e-5), (1e-5, 1e-2), (1e-5, 1.0)],
    ids=["no rounding", "too far", "the model itself too far", "a fault", "another model"],
)
def test_what_rounding_does_not_explain_is_refused(gated, link):
    with pytest.raises(ChainError, match=r"^folded differs from the gated model"):
        chain_from(moved(gated, 1)).add("folded", moved(link, 2))


def test_the_model_in_float64_is_made_once_and_only_if_needed():
    made = []

    def precise():
        made.append(1)
        return moved(0.0)

    chain = Chain("classification", inputs_for(None), Tolerances())
    chain.set_reference(moved(2e-4, 1), precise)
    chain.add("equal", moved(2e-4, 1))
    assert made == []
    assert chain.links[0].gated_rounding is None
    for name in ("folded", "shrunk torch"):
        chain.add(name, moved(2e-4, 2))
    assert made == [1]


def magnified_run(folder, variant):
    """A run with DoRA on a base whose matrices are so large that float32 is 2e-4 away from float64."""
    model = stored_model(variant, layers=2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "embed" not in name:
                parameter.mul_(MAGNIFIED)
    model.save_pretrained(folder / "base")
    tiny_tokenizer().save_pretrained(folder / "base")
    return tiny_run(folder / "run", folder / "base", "coupled", lora=dataclasses.replace(LORA, dora=True))


@pytest.mark.slow
@pytest.mark.parametrize("variant", tiered(("mpnet", "gpt2", "bert", "electra"), fast=(), default=("mpnet",)))
def test_a_base_with_large_weights_is_exported_and_what_it_rounds_is_told(tmp_path, variant):
    report = export(ExportOptions(ckpt=magnified_run(tmp_path, variant), out=tmp_path / "bundle", threads=1))
    assert all(max(link.relative, link.hidden_relative or 0.0) < 1e-3 for link in report.links)
    if variant in ("mpnet", "gpt2"):
        assert any(link.gated_rounding is not None for link in report.links)
        assert "compared with the gated model in float64" in str(report)
