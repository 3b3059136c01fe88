"""The penalty is smooth with the constant that its formula has, and plain SGD on a smooth sum with it comes to rest.

What the proposition does not cover is here too: the kink of the target's absolute value, and the clamp of the gate.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
import torch

from finegates_export.gates.gate import OPEN_MU, evaluation_gate, gate_noise, open_probability, training_gate

SIGMA = 0.5
REACH = 6.0
"""Beyond it the penalty is flat to float64's last digits (sigma 0.5)."""
DENSE, PAIRED = 240_001, 1_201
GATES, ROWS = 24, 64


def identity(mu):
    return mu


def slope(function, at):
    """The derivative of a function of one gate, at many points."""
    at = at.detach().requires_grad_(True)
    return torch.autograd.grad(function(at).sum(), at)[0]


def bend(function, at):
    """The second derivative, likewise."""
    at = at.detach().requires_grad_(True)
    (first,) = torch.autograd.grad(function(at).sum(), at, create_graph=True)
    return torch.autograd.grad(first.sum(), at)[0]


def steepest(function, points=DENSE):
    """Where the slope changes fastest, and how fast: the smallest Lipschitz constant of the gradient."""
    grid = torch.linspace(-REACH, REACH, points, dtype=torch.float64)
    bends = bend(function, grid).abs()
    return float(grid[bends.argmax()]), float(bends.max())


def worst_ratio(function, points):
    """The largest |slope(a) - slope(b)| / |a - b| over all pairs."""
    slopes = slope(function, points)
    distance = (points[:, None] - points[None, :]).abs()
    change = (slopes[:, None] - slopes[None, :]).abs()
    return float((change / distance.masked_fill(distance == 0, math.inf)).max())


@pytest.mark.parametrize("sigma", [SIGMA, 0.3, 1.0])
@pytest.mark.parametrize("location", [identity, torch.tanh], ids=["mu", "tanh"])
def test_the_penaltys_gradient_is_lipschitz_with_its_formulas_constant_and_no_smaller_one(location, sigma):
    def penalty(parameter):
        return open_probability(location(parameter), sigma)

    where, constant = steepest(penalty)
    everywhere = torch.linspace(-REACH, REACH, PAIRED, dtype=torch.float64)
    assert worst_ratio(penalty, everywhere) <= constant * (1 + 1e-9)
    near = torch.linspace(where - 0.01, where + 0.01, 21, dtype=torch.float64)
    assert worst_ratio(penalty, near) <= constant * (1 + 1e-9)
    assert worst_ratio(penalty, near) > 0.99 * constant


def test_the_constants_are_those_of_the_documentation():
    in_mu = steepest(lambda mu: open_probability(mu, SIGMA))[1]
    through_tanh = steepest(lambda logit: open_probability(torch.tanh(logit), SIGMA))[1]
    assert in_mu == pytest.approx(NormalDist().pdf(1) / SIGMA**2, rel=1e-8)
    assert (round(in_mu, 3), round(through_tanh, 3)) == (0.968, 0.999)


def smooth_task():
    """A loss that is smooth and not convex, a mean over rows, and its gradient's Lipschitz constant."""
    generator = torch.Generator().manual_seed(2)
    x_BN = torch.randn(ROWS, GATES, generator=generator, dtype=torch.float64)
    shift_B = 3 * torch.rand(ROWS, generator=generator, dtype=torch.float64)

    def loss(mu, rows=slice(None)):
        return (1 - torch.cos(x_BN[rows] @ mu - shift_B[rows])).mean()

    return loss, float(torch.linalg.matrix_norm(x_BN.T @ x_BN / ROWS, 2))


def descend(loss, start, rates, rows=None):
    """Plain SGD; the values and the norms of the whole gradient on the way."""
    mu = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.SGD([mu], lr=1.0)
    values, norms = [], []
    for step, rate in enumerate(rates):
        whole = loss(mu)
        (gradient,) = torch.autograd.grad(whole, mu)
        values.append(float(whole.detach()))
        norms.append(float(gradient.norm()))
        if rows is not None:
            (gradient,) = torch.autograd.grad(loss(mu, rows[step]), mu)
        mu.grad = gradient
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    return values, norms


def penalised(task):
    return lambda mu, *rows: task(mu, *rows) + open_probability(mu, SIGMA).sum()


def start_of(seed):
    return torch.randn(GATES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("seed", range(3))
def test_gradient_descent_at_one_over_l_descends_at_every_step_and_comes_to_rest(seed):
    task, task_constant = smooth_task()
    rate = 1 / (task_constant + steepest(lambda mu: open_probability(mu, SIGMA))[1])
    values, norms = descend(penalised(task), start_of(seed), [rate] * 1500)
    for before, after, norm in zip(values, values[1:], norms, strict=False):
        assert after <= before - rate / 2 * norm**2 + 1e-12
    assert norms[0] > 1.0
    assert max(norms[-300:]) < 1e-3


@pytest.mark.slow
def test_sgd_on_a_few_rows_a_step_comes_to_rest_as_its_rate_decays():
    task, task_constant = smooth_task()
    bound = task_constant + steepest(lambda mu: open_probability(mu, SIGMA))[1]
    steps = 3000
    rows = torch.randint(ROWS, (steps, 8), generator=torch.Generator().manual_seed(4))
    decaying = [1 / bound / (1 + step / 50) for step in range(steps)]
    resting = descend(penalised(task), start_of(0), decaying, rows)[1]
    restless = descend(penalised(task), start_of(0), [1 / bound] * steps, rows)[1]
    assert max(resting[-300:]) < 0.1 < min(restless[-300:])


@pytest.mark.parametrize(("over", "rests"), [(1.0, True), (1.9, True), (2.1, False), (2.5, False)])
def test_a_rate_above_two_over_l_finds_no_rest_where_the_constant_is_reached(over, rests):
    # One gate whose only stationary point nearby is where both terms bend the most.
    weight, rest = 20.0, -0.5 - SIGMA
    pull = float(slope(lambda mu: open_probability(mu, SIGMA), torch.tensor([rest], dtype=torch.float64)))
    shift = rest + math.asin(pull / weight)

    def loss(mu):
        return (weight * (1 - torch.cos(mu - shift)) + open_probability(mu, SIGMA)).sum()

    bound = weight + steepest(lambda mu: open_probability(mu, SIGMA))[1]
    start = torch.tensor([rest + 1e-3], dtype=torch.float64)
    norms = descend(loss, start, [over / bound] * 600)[1]
    if rests:
        assert max(norms[-100:]) < 1e-9
    else:
        assert min(norms[-100:]) > 1.0


@pytest.mark.parametrize(
    ("function", "kink"),
    [(lambda mu: (open_probability(mu, SIGMA) - 0.5).abs(), -0.5), (evaluation_gate, 0.5)],
    ids=["target", "clamp"],
)
def test_no_constant_holds_for_the_targets_absolute_value_nor_for_the_clamp(function, kink):
    for distance in (1e-3, 1e-6, 1e-9):
        around = torch.tensor([kink - distance, kink + distance], dtype=torch.float64)
        assert worst_ratio(function, around) > 0.4 / distance


def test_half_of_the_gates_hear_the_task_at_the_start_and_one_in_a_hundred_at_the_authors():
    count = 100_000
    logits = 1 + 0.1 * torch.randn(count, generator=torch.Generator().manual_seed(6))
    for mu, heard in ((torch.full((count,), OPEN_MU), 0.5), (torch.tanh(logits), 0.01)):
        start = mu.requires_grad_(True)
        training_gate(start, gate_noise(count, 0.1, seed=0, step=0)).sum().backward()
        assert float((start.grad > 0).float().mean()) == pytest.approx(heard, abs=0.004)
