"""The formulas of a gate, and what a gated linear computes."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
import torch

from finegates_export.gates.gate import evaluation_gate, gate_noise, open_probability, training_gate
from finegates_export.gates.gated_model import plain_model
from tests.export.compare import (
    ROLES,
    awkward_inputs,
    difference,
    expected_gates,
    gated,
    linear_of,
    structure_of,
    torch_outputs,
)
from tests.tiny import FRACTIONS, LORA, random_gates, tiny_lora
from tests.tiny_models import tiny_model


@pytest.mark.parametrize("lora", [None, LORA], ids=["plain", "lora"])
@pytest.mark.parametrize("layout", ["matrix", "coupled", "none"])
@pytest.mark.parametrize("role", ROLES)
def test_gated_linear_computes_the_formula(layout, role, lora):
    model = tiny_model()
    structure = structure_of(model)
    vectors = random_gates(structure, layout, FRACTIONS, seed=5)
    w0, b = (getattr(linear_of(model, role), name).detach().double().numpy() for name in ("weight", "bias"))
    wrapped = tiny_lora(model, structure.linears(), lora, seed=2) if lora else model
    linear = linear_of(wrapped, role)
    delta = np.zeros_like(w0)
    if lora:
        w_a, w_b = (getattr(linear, name)["default"].weight.detach().double().numpy() for name in ("lora_A", "lora_B"))
        delta = lora.alpha / lora.rank * w_b @ w_a
    seen = {}
    linear.register_forward_pre_hook(lambda _module, args: seen.update(x=args[0].double().numpy()))
    gated_model = gated(wrapped, layout, vectors)
    linear.register_forward_hook(lambda _module, _args, y: seen.update(y=y.double().numpy()))

    torch_outputs(gated_model, plain_model(wrapped))

    w_r, w_c = expected_gates(layout, vectors, role, *w0.shape)
    expected = w_r * ((seen["x"] * w_c) @ (w0 + delta).T + b)
    np.testing.assert_allclose(seen["y"], expected, atol=2e-5)
    if layout == "matrix":
        assert (w_r == 0).any()
        assert not seen["y"][..., w_r == 0].any()  # the bias is gated too: a closed row is silent


def test_evaluation_gate_is_the_clamped_location():
    mu = torch.tensor([-2.0, -0.5, -0.25, 0.0, 0.25, 0.5, 3.0])
    assert evaluation_gate(mu).tolist() == [0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


def test_training_gate_adds_noise_before_it_clamps():
    mu, noise = torch.tensor([0.5, -0.5, 0.0, 0.4]), torch.tensor([-0.25, 0.25, 0.125, 5.0])
    torch.testing.assert_close(training_gate(mu, noise), torch.tensor([0.75, 0.25, 0.625, 1.0]))


@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_open_probability_is_the_normal_distribution_of_the_location(sigma):
    mu = [-1.5, -0.5, -0.1, 0.0, 0.3, 1.0]
    expected = [NormalDist().cdf((value + 0.5) / sigma) for value in mu]
    np.testing.assert_allclose(open_probability(torch.tensor(mu), sigma).numpy(), expected, atol=1e-6)


def test_noise_depends_on_seed_and_step_and_nothing_else():
    first = gate_noise(1000, 0.1, seed=4, step=7)
    torch.manual_seed(99)
    torch.rand(13)
    assert torch.equal(first, gate_noise(1000, 0.1, seed=4, step=7))
    assert not torch.equal(first, gate_noise(1000, 0.1, seed=4, step=8))
    assert not torch.equal(first, gate_noise(1000, 0.1, seed=5, step=7))
    assert float(first.std()) == pytest.approx(0.1, rel=0.1)
    assert float(first.mean()) == pytest.approx(0.0, abs=0.02)


def logits_at(model, step):
    batch = {
        name: torch.from_numpy(value) for name, value in awkward_inputs(plain_model(model.model).config)[1].items()
    }
    with torch.no_grad():
        return model(step=step, **batch).logits


def test_a_training_step_draws_its_own_noise_and_evaluation_draws_none():
    model = gated(tiny_model(), "coupled", random_gates(structure_of(tiny_model()), "coupled", FRACTIONS, 1), seed=3)
    model.train()
    plain_model(model.model).eval()  # dropout off: gates are the only chance left
    assert torch.equal(logits_at(model, step=1), logits_at(model, step=1))
    assert not torch.equal(logits_at(model, step=1), logits_at(model, step=2))
    evaluated = logits_at(model, step=None)
    model.eval()
    assert torch.equal(logits_at(model, step=1), evaluated)
    assert torch.equal(logits_at(model, step=2), evaluated)


@pytest.mark.parametrize("layout", ["matrix", "coupled"])
def test_attaching_gates_leaves_the_base_state_dict_whole_and_unchanged(layout):
    model = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gated_model = gated(model, layout, random_gates(structure_of(model), layout, FRACTIONS, 1))
    torch_outputs(gated_model, model)
    after = gated_model.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_detached_gates_leave_the_model_as_it_was():
    model = tiny_model()
    untouched = torch_outputs(model)
    gated_model = gated(model, "matrix", random_gates(structure_of(model), "matrix", FRACTIONS, 1))
    assert difference(untouched, torch_outputs(gated_model, model)) > 0.01
    assert difference(untouched, torch_outputs(gated_model.detach_gates())) == 0.0


def test_open_gates_change_nothing():
    model = tiny_model()
    untouched = torch_outputs(model)
    for layout in ("matrix", "coupled", "none"):
        open_gates = {
            name: torch.ones_like(mu) for name, mu in random_gates(structure_of(model), layout, {}, 1).items()
        }
        gated_model = gated(model, layout, open_gates)
        assert difference(untouched, torch_outputs(gated_model, model)) == 0.0
        gated_model.detach_gates()
