"""From each unit's openness to the kept units: possible widths for each layer, within an exact budget.

Heads of one layer need equal Q/K widths and equal V widths, or each is padded to the widest. So units are not cut by a
threshold: every possible width of a layer is an option with a value (the summed scores of kept units) and a cost
(weights or milliseconds), and a Lagrange multiplier picks the options of greatest value within the budget.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from finegates_export.errors import InputError
from finegates_export.families.structure import Structure
from finegates_export.gates.layout import UnitKey
from finegates_export.pruning.layer_options import Choice, Costs, LayerOptions, Mask, Scores, WeightCosts
from finegates_export.pruning.widths import Widths

BISECTIONS = 100
HIGHEST_PRICE = 2.0**100
"""A price per unit of cost at which only the empty option is worth choosing."""
ROUNDING = 1e-6
"""Tolerance of a budget in weights, since shares are floating-point numbers."""
LEAST_WORTH = 1e-6
"""Share of the highest score that replaces a score of 0."""


def settle(
    scores: Mapping[UnitKey, Scores],
    structure: Structure,
    removed: float,
    widths: Widths,
    *,
    residual_width: int | None = None,
) -> dict[UnitKey, Mask]:
    """Decide which units stay so that `removed` of the layers' linear weights is removed.

    Args:
        scores: value of each unit per unit group, shape (units,); negative if closed for good.
        structure: the model's units.
        removed: share of the layers' linear weights to remove, 0 to 1.
        widths: the widths to choose among.
        residual_width: kept dims of the residual stream, if a width gate closed some.

    Returns:
        Per unit group, a mask of shape (units,): True stays.

    Raises:
        InputError: `removed` lies outside 0..1 or a score is not finite.
    """
    if not 0.0 <= removed < 1.0:
        raise InputError(f"a removed share of {removed} cannot be settled; it must lie in [0, 1)")
    width = structure.hidden_size if residual_width is None else residual_width
    budget = (1.0 - removed) * structure.linear_weights + ROUNDING
    return settle_within(scores, structure, widths, WeightCosts(structure, width), budget)


def settle_within(
    scores: Mapping[UnitKey, Scores], structure: Structure, widths: Widths, costs: Costs, budget: float
) -> dict[UnitKey, Mask]:
    """Decide which units stay so that the layers cost no more than a budget; see `settle`.

    Args:
        scores: value of each unit per unit group, shape (units,); negative if closed for good.
        structure: the model's units.
        widths: the widths to choose among.
        costs: their costs.
        budget: the maximum total cost of all layers.

    Raises:
        InputError: a score is not finite, or the budget is negative.
    """
    for key, values in scores.items():
        if not np.isfinite(values).all():
            raise InputError(f"scores of layer {key[0]} ({key[1]}) are not finite; the gates cannot be ranked")
    if budget < 0:
        raise InputError(f"a budget of {budget:g} cannot be met: even layers without any unit cost nothing, not less")
    # Worthless units still need a positive value, or a small share could not be met.
    highest = max((float(values.max(initial=0.0)) for values in scores.values()), default=0.0)
    floor = LEAST_WORTH * (highest or 1.0)
    scores = {key: np.where(values < 0, values, np.maximum(values, floor)) for key, values in scores.items()}
    layers = [LayerOptions(structure, index, scores, widths, costs) for index in range(len(structure.layers))]
    choices = _choose(layers, budget)
    _spend_rest(layers, choices, budget)
    _trade_neurons_for_a_dim(layers, choices, budget)
    keep: dict[UnitKey, Mask] = {}
    for layer, choice in zip(layers, choices, strict=True):
        keep.update(layer.masks(choice))
    return keep


def settle_width(scores: Scores, removed: float) -> Mask:
    """Decide which dims of a gated residual width stay: the open ones, and no fewer than the budget needs.

    A dim of the width takes weights from every linear, so the width alone must not remove more than requested.

    Args:
        scores: openness of each dim, shape (residual width,); closed at 0 and below.
        removed: share of the layers' linear weights to remove.
    """
    least = max(1, math.ceil((1.0 - removed) * len(scores)))
    stays = scores > 0
    if stays.sum() < least:
        stays[np.argsort(-scores, kind="stable")[:least]] = True
    return np.asarray(stays, bool)


def _choose(layers: list[LayerOptions], budget: float) -> list[Choice]:
    """The options of greatest value at the lowest price at which they fit the budget."""
    low, high = 0.0, 1.0
    while high < HIGHEST_PRICE and _cost(layers, [layer.choose(high) for layer in layers]) > budget:
        low, high = high, 2 * high
    for _ in range(BISECTIONS):
        price = (low + high) / 2
        if _cost(layers, [layer.choose(price) for layer in layers]) > budget:
            low = price
        else:
            high = price
    choices = [layer.choose(high) for layer in layers]
    # Units of equal value, such as those with fully open gates, would all go at that price, even heads that fit.
    rest = budget - _cost(layers, choices)
    for number, layer in enumerate(layers):
        taken_back = layer.dearest_tie(choices[number], high, rest)
        rest -= layer.cost(taken_back) - layer.cost(choices[number])
        choices[number] = taken_back
    return choices


def _cost(layers: list[LayerOptions], choices: list[Choice]) -> float:
    return sum(layer.cost(choice) for layer, choice in zip(layers, choices, strict=True))


def _spend_rest(layers: list[LayerOptions], choices: list[Choice], budget: float) -> None:
    """Reopen the best closed neurons with the rest of the budget."""
    rest = budget - _cost(layers, choices)
    while True:
        steps = []
        for layer, choice in zip(layers, choices, strict=True):
            wider = layer.wider_network(choice)
            if wider is not None and wider[2] <= rest:
                width, value, cost = wider
                steps.append((value / cost if cost > 0 else math.inf, choice, width, cost))
        if not steps:
            return
        _, choice, width, cost = max(steps, key=lambda step: step[0])
        choice.ffn = width
        rest -= cost


def _trade_neurons_for_a_dim(layers: list[LayerOptions], choices: list[Choice], budget: float) -> None:
    """If every neuron is open and some budget is left, widen the heads of a layer and pay for the rest with neurons.

    One more dim in all heads of a layer costs more than a neuron; in a small model that is a visible share.
    """
    rest = budget - _cost(layers, choices)
    pairs = list(zip(layers, choices, strict=True))
    steps = [(step, layer, choice) for layer, choice in pairs for step in layer.wider_heads(choice)]
    saturated = all(layer.wider_network(choice) is None for layer, choice in pairs)
    if not steps or not saturated or rest < min(layer.neuron_cost for layer in layers):
        return
    (cost, kind, width), layer, choice = min(steps, key=lambda step: step[0][0])
    narrower = layer.narrower_network(choice, cost - rest)
    if narrower is not None:
        setattr(choice, kind, width)
        choice.ffn = narrower
