"""Closed dims on the residual side of linears: found in the shrunk model, and judged by what they really cost.

In the matrix layout a linear may read or write fewer dims of the residual stream than there are. The matrix can carry
them as zeros, or get smaller behind (or in front of) a gather, which costs time of its own. Which is faster is measured
on the machine, with the widths in question, never assumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from torch import nn

from finegates_export.families.structure import LayerMap, Structure
from finegates_export.pruning.plan import Dims, ResidualPlan

TOGETHER = ("query", "key", "value")
"""Linears that read the same tensor and are one product where nothing is gathered: they are judged as one."""


@dataclass(frozen=True)
class ResidualUse:
    """How one linear uses the residual stream."""

    linear: str
    side: Literal["reads", "writes"]
    width: int
    dims: Dims
    """The dims that it really reads or writes."""
    units: int
    """Its size on the other side."""
    activated: bool
    """Whether an activation follows."""


class Judge(Protocol):
    """Says whether gathers pay for linears that belong together, and why."""

    def __call__(self, uses: Sequence[ResidualUse]) -> tuple[bool, str]:
        """True to gather, and the reason as users read it."""


def residual_plans(model: nn.Module, structure: Structure, judge: Judge) -> tuple[ResidualPlan, ...]:
    """What becomes of the closed dims of every linear that has any.

    Args:
        model: the shrunk model.
        structure: where its linears are.
        judge: decides.
    """
    plans = []
    for layer in structure.layers:
        for uses in _uses(model, layer):
            gathered, why = judge(uses)
            plans += [ResidualPlan(use.linear, use.side, use.width, use.dims, use.units, gathered, why) for use in uses]
    return tuple(plans)


def always(uses: Sequence[ResidualUse]) -> tuple[bool, str]:
    """The judge of those who want gathers wherever they make a matrix smaller."""
    smaller = all(use.width - len(use.dims) > (use.side == "writes") for use in uses)
    return smaller, "gathered (asked for)" if smaller else "zeros stay: a gather would make nothing smaller"


def never(uses: Sequence[ResidualUse]) -> tuple[bool, str]:
    """The judge of those who want no gathers."""
    _ = uses
    return False, "zeros stay in the matrix (no gathers asked for)"


def _uses(model: nn.Module, layer: LayerMap) -> Iterator[list[ResidualUse]]:
    """Linears with closed dims, those that belong together in one list."""
    roles = layer.roles()
    # DeBERTa's position terms read the same matrices with other inputs: they stay whole.
    together = () if layer.attention.kind == "disentangled" else TOGETHER
    shared = [use for path in dict.fromkeys(roles[role] for role in together) if (use := _use(model, path, "reads"))]
    if shared:
        yield shared
    up, factor = roles["up"], layer.feed_forward.factor
    network = [up, *([factor.linear] if factor else [])]
    alone = [(roles["output"], "writes"), *((path, "reads") for path in network), (roles["down"], "writes")]
    for path, side in dict.fromkeys(alone):
        use = _use(model, path, side, activated=path == up)
        if use is not None:
            yield [use]


def _use(model: nn.Module, path: str, side: Any, *, activated: bool = False) -> ResidualUse | None:
    try:
        linear = model.get_submodule(path)
    except AttributeError:  # went with its parent
        return None
    if not isinstance(linear, nn.Linear):
        return None
    weight = linear.weight.detach().numpy()
    used = (weight != 0).any(axis=0 if side == "reads" else 1)
    if used.all() or not used.any():
        return None
    dims = tuple(int(dim) for dim in np.flatnonzero(used))
    return ResidualUse(path, side, len(used), dims, weight.shape[0 if side == "reads" else 1], activated)
