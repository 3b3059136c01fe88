"""Products of all gates at once are those that a loop over layers, sides and factors gives, in every family's form."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
import torch

from finegates_export.families.residual import residual_map
from finegates_export.gates.bank import GateBank
from finegates_export.gates.layout import build_layout, residual_factors
from tests.export.compare import structure_of
from tests.tiny import FRACTIONS, random_gates
from tests.tiny_models import tiny_model

FORMS = [
    ("bert", "matrix", False),
    ("bert", "coupled", True),
    ("modernbert", "matrix", False),  # rotary pairs join rows, linears stored fused
    ("modernbert", "coupled", False),  # one gate for two rows, blocks without gates
    ("deberta-own", "matrix", False),  # units that any of their sides keeps
    ("qwen2", "matrix", False),  # rows of several query heads join, more of them in Q than in K
    ("qwen2", "coupled", False),  # one gate for the columns of several query heads
    ("qwen3", "matrix", False),  # rows of all heads join
    ("qwen3", "coupled", False),  # one gate for the rows of all heads
]


def bank_of(variant, layout, width):
    model = tiny_model(variant)
    structure = structure_of(model)
    residual = residual_map(model, structure) if width else None
    bank = GateBank(build_layout(layout, structure, residual), structure)
    bank.load_vectors(random_gates(structure, layout, FRACTIONS, 3, residual))
    return bank


def either(one, other):
    return 1 - (1 - one) * (1 - other)


def runs(gate, factor):
    return gate.reshape(-1, factor.run or len(gate))


def entering(gates, factor):
    gate = gates[factor.gate].repeat(factor.repeat)
    if factor.joined > 1:
        together = [runs(gate, factor)[first :: factor.joined] for first in range(factor.joined)]
        gate = reduce(either, together).ravel()
    return np.concatenate([np.tile(run, factor.times) for run in runs(gate, factor)])


def product(gates, factors, *, any_keeps=False):
    result = None
    for factor in factors:
        gate = entering(gates, factor)
        result = gate if result is None else either(result, gate) if any_keeps else result * gate
    return result


def by_name(bank, values_N):
    """Values by gate vector, in the layout's order."""
    sizes = [gate.size for gate in bank.layout.gates]
    parts = values_N.detach().double().split(sizes)
    return {gate.name: part.numpy() for gate, part in zip(bank.layout.gates, parts, strict=True)}


def kept_by_loop(bank, gates):
    kept = 0.0
    for group in bank.structure.groups():
        key = (group.layer, group.kind)
        units = product(gates, bank.layout.units[key], any_keeps=key in bank.layout.any_keeps)
        for side in group.sides:
            factors = residual_factors(bank.layout, side)
            residual = product(gates, factors).sum() if factors else bank.structure.hidden_size
            kept += units.sum() * group.rows_per_unit * side.copies * residual
    return kept / bank.structure.linear_weights


@pytest.mark.parametrize(("variant", "layout", "width"), FORMS)
def test_units_scales_shares_and_means_are_those_of_a_loop(variant, layout, width):
    bank = bank_of(variant, layout, width)
    values_N = bank.sample(0.1, seed=1, step=2)
    gates = by_name(bank, values_N)
    for key, units in bank.unit_products(values_N).items():
        expected = product(gates, bank.layout.units[key], any_keeps=key in bank.layout.any_keeps)
        np.testing.assert_allclose(units.detach().numpy(), expected, atol=1e-6)
    scales = bank.scales(values_N)
    for side, factors in bank.layout.scales.items():
        block = scales[side.whole].detach().numpy().reshape(side.blocks, -1)[side.block]
        np.testing.assert_allclose(block, product(gates, factors), atol=1e-6)
    gated = {(side.whole, side.block) for side in bank.layout.scales}
    for whole in scales:
        blocks = max(side.blocks for side in bank.layout.scales if side.whole == whole)
        for number, block in enumerate(scales[whole].view(blocks, -1)):
            assert (whole, number) in gated or bool((block == 1).all())
    assert float(bank.kept_share(values_N).detach()) == pytest.approx(kept_by_loop(bank, gates), rel=1e-5)
    assert sorted(bank.means(values_N).tolist()) == pytest.approx(sorted(gate.mean() for gate in gates.values()))


@pytest.mark.parametrize(("variant", "layout", "width"), FORMS)
def test_one_gate_more_changes_what_it_enters_and_nothing_else(variant, layout, width):
    bank = bank_of(variant, layout, width)
    before = torch.full((len(bank),), 0.5)
    after = before.clone()
    number = int(torch.randint(len(bank), (), generator=torch.Generator().manual_seed(8)))
    after[number] = 0.75
    changed = by_name(bank, (before != after).float())
    assert bank.kept_share(after) > bank.kept_share(before)
    scales = [bank.scales(values) for values in (before, after)]
    for side, factors in bank.layout.scales.items():
        touched = any(entering(changed, factor).any() for factor in factors)
        one, other = (scale[side.whole].view(side.blocks, -1)[side.block] for scale in scales)
        assert bool((one != other).any()) == touched
