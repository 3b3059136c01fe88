"""The lean product of a tensor and its gates has the plain product's gradients, and keeps no tensor of its own."""

from __future__ import annotations

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from finegates_export.gates.gate import evaluation_gate
from finegates_export.gates.multiply import multiply

ROWS, TOKENS, DIMS = 3, 5, 8


def plain(x, gates):
    return x * gates.to(x.dtype)


def gradients(product, mu_of, dtype=torch.float64):
    """Of some loss for the tensor and for the gates' locations; gates are products of two, as a head's and a dim's."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(ROWS, TOKENS, DIMS, generator=generator, dtype=torch.float64).to(dtype).requires_grad_(True)
    weights = torch.randn(DIMS, DIMS, generator=generator, dtype=torch.float64).to(dtype)
    mu, head = (mu_of(generator).requires_grad_(True) for _ in range(2))
    gates = evaluation_gate(mu) * evaluation_gate(head)
    (product(x, gates) @ weights).tanh().sum().backward()
    return x.grad, mu.grad, head.grad


def fractional(generator):
    return torch.rand(DIMS, generator=generator, dtype=torch.float64) - 0.45


def some_closed(generator):
    mu = 2.4 * torch.rand(DIMS, generator=generator, dtype=torch.float64) - 1.2
    mu[:3] = torch.tensor([-0.9, 0.7, 0.1], dtype=torch.float64)
    return mu


@pytest.mark.parametrize("mu_of", [fractional, some_closed])
def test_gradients_are_the_plain_products(mu_of):
    for lean, expected in zip(gradients(multiply, mu_of), gradients(plain, mu_of), strict=True):
        assert bool(expected.abs().max() > 0.1)
        torch.testing.assert_close(lean, expected, atol=1e-12, rtol=1e-10)


def test_in_half_precision_the_gates_gradients_are_as_near_as_the_plain_products():
    exact = gradients(plain, fractional)[1]
    lean, usual = (gradients(way, fractional, torch.bfloat16)[1] for way in (multiply, plain))
    scale = float(exact.abs().max())
    assert float((lean - exact).abs().max()) < 0.03 * scale
    assert float((lean - exact).abs().max()) < 2 * float((usual - exact).abs().max())


def test_a_gate_that_reached_0_without_a_clamp_would_get_no_gradient():
    x, gates = torch.ones(2, DIMS), torch.zeros(DIMS, requires_grad=True)
    multiply(x, gates).sum().backward()
    assert gates.grad is not None
    assert not gates.grad.any()


def kept_for_backward(product):
    """Storages of activations that autograd holds behind a gate that a linear with trained weights follows."""
    kept = set()
    x = torch.randn(ROWS, TOKENS, DIMS, requires_grad=True)
    gates = torch.full((DIMS,), 0.5, requires_grad=True)
    weight = torch.randn(DIMS, DIMS, requires_grad=True)

    def note(tensor):
        if tensor.numel() == x.numel():
            kept.add(tensor.untyped_storage().data_ptr())
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        y = torch.nn.functional.linear(product(x * 1.0, gates), weight)
    assert y.requires_grad
    return len(kept)


def test_nothing_is_kept_that_the_linear_behind_does_not_keep():
    assert kept_for_backward(multiply) == 1
    assert kept_for_backward(plain) == 2
