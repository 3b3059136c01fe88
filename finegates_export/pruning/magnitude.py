"""The magnitude of each unit's weights: the ranking of magnitude pruning."""

from __future__ import annotations

import numpy as np
from torch import nn

from finegates_export.families.modules import linear_at
from finegates_export.families.structure import Structure
from finegates_export.gates.layout import UnitKey
from finegates_export.pruning.layer_options import Scores
from finegates_export.pruning.planner import rows_of_side


def magnitude_scores(model: nn.Module, structure: Structure) -> dict[UnitKey, Scores]:
    """Per unit group, the L2 norm of each unit's rows and columns together, shape (units,).

    Args:
        model: a plain model; adapters count only if merged into the weights.
        structure: where its linears are.
    """
    scores: dict[UnitKey, Scores] = {}
    for group in structure.groups():
        squares = np.zeros((group.heads, group.width))
        for side in group.sides:
            if side.axis == "row":
                weight = rows_of_side(model, side)[0].detach().double().cpu().numpy()
                squared = np.square(weight).sum(axis=1)
            else:
                weight = linear_at(model, side.linear).weight.detach().double().cpu().numpy()
                squared = np.square(weight).sum(axis=0)
            squares += squared.reshape(group.axes(side)).sum((1, 2))
        scores[group.layer, group.kind] = np.sqrt(squares.reshape(-1))
    return scores
