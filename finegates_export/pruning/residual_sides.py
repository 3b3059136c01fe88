"""Closed dims on the residual side of linears: found in the shrunk model, and judged by measured cost.

In the matrix layout a linear may read or write only some dims of the residual stream. The matrix can keep the others as
zeros, or get smaller with a gather before (or after) it, which costs time itself. Which is faster is measured on the
machine at the widths in question, never assumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import nn

from finegates_export.families.modules import kept_linear
from finegates_export.families.structure import LayerMap, Structure
from finegates_export.pruning.plan import Dims, ResidualPlan, Side

TOGETHER = ("query", "key", "value")
"""Linears that read the same tensor and form one product without gathers: they are judged together."""


@dataclass(frozen=True)
class ResidualUse:
    """How one linear uses the residual stream."""

    linear: str
    side: Side
    width: int
    dims: Dims
    """The dims that it really reads or writes."""
    units: int
    """Its size on the other side."""
    activated: bool
    """Whether an activation follows."""


class Judge(Protocol):
    """Decides whether gathers pay for linears that belong together, and why."""

    def __call__(self, uses: Sequence[ResidualUse]) -> tuple[bool, str]:
        """True to gather, and the reason for users."""


def residual_plans(model: nn.Module, structure: Structure, judge: Judge) -> tuple[ResidualPlan, ...]:
    """The treatment of closed dims of every linear that has any.

    Args:
        model: the shrunk model.
        structure: where its linears are.
        judge: makes the decision.
    """
    plans = []
    for layer in structure.layers:
        for uses in _uses(model, layer):
            gathered, why = judge(uses)
            plans += [ResidualPlan(use.linear, use.side, use.width, use.dims, use.units, gathered, why) for use in uses]
    return tuple(plans)


def always(uses: Sequence[ResidualUse]) -> tuple[bool, str]:
    """The judge that always gathers if it makes a matrix smaller."""
    smaller = all(use.width - len(use.dims) > (use.side == "writes") for use in uses)
    return smaller, "gathered (asked for)" if smaller else "zeros stay: a gather would make nothing smaller"


def never(uses: Sequence[ResidualUse]) -> tuple[bool, str]:
    """The judge that never gathers."""
    _ = uses
    return False, "zeros stay in the matrix (no gathers asked for)"


def _uses(model: nn.Module, layer: LayerMap) -> Iterator[list[ResidualUse]]:
    """Linears with closed dims, grouped by those that belong together."""
    roles = layer.roles()
    # DeBERTa's position terms use the same matrices with other inputs, so they are not cut.
    together = () if layer.attention.kind == "disentangled" else TOGETHER
    shared = [use for path in dict.fromkeys(roles[role] for role in together) if (use := _use(model, path, "reads"))]
    if shared:
        yield shared
    up, factor = roles["up"], layer.feed_forward.factor
    network = [up, *([factor.linear] if factor else [])]
    alone: list[tuple[str, Side]] = [(roles["output"], "writes")]
    alone += [*((path, "reads") for path in network), (roles["down"], "writes")]
    for path, side in dict.fromkeys(alone):
        use = _use(model, path, side, activated=path == up)
        if use is not None:
            yield [use]


def _use(model: nn.Module, path: str, side: Side, *, activated: bool = False) -> ResidualUse | None:
    linear = kept_linear(model, path)
    if linear is None:
        return None
    weight = linear.weight.detach().numpy()
    used = (weight != 0).any(axis=0 if side == "reads" else 1)
    if used.all() or not used.any():
        return None
    dims = tuple(int(dim) for dim in np.flatnonzero(used))
    return ResidualUse(path, side, len(used), dims, weight.shape[0 if side == "reads" else 1], activated)
