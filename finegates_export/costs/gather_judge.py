"""Whether gathers pay for the closed dims of linears, by the cost table of the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finegates_export.costs.blocks.linear_shape import LinearShape
from finegates_export.costs.cost_table import CostTable
from finegates_export.pruning.residual_sides import ResidualUse

STEPS, COARSE_STEPS = 24, 6
"""Widths are rounded to this many steps of the residual width, so that layers share measurements. The size on the other
side is the same in both ways and may be coarser."""


@dataclass(frozen=True)
class GatherJudge:
    """Compares matrices with zeros to narrower ones with gathers, measured side by side.

    Linears that read the same tensor are compared together: without gathers they are one product.
    """

    table: CostTable
    tokens: int
    """Batch times sequence at which the linears are measured."""

    def __call__(self, uses: Sequence[ResidualUse]) -> tuple[bool, str]:
        """See `residual_sides.Judge`."""
        width = uses[0].width
        kept = _rounded(sum(len(use.dims) for use in uses) / len(uses), width, STEPS)
        if kept >= width:
            return False, f"zeros stay: fewer than one in {2 * STEPS} dims is closed"
        units = [_rounded(use.units, width, COARSE_STEPS) for use in uses]
        zeros = [_linear(uses[0], self.tokens, width, sum(units))]
        gathered = [_linear(use, self.tokens, kept, count) for use, count in zip(uses, units, strict=True)]
        decision = self.table.cheaper(zeros, gathered)
        return decision.chosen == "b", decision.why


def _linear(use: ResidualUse, tokens: int, dims: int, units: int) -> LinearShape:
    """The linear on this many residual dims, gathered if they are not all.

    Only the activation has its bias in its own operator; attention and norms include the others.
    """
    through = None if dims == use.width else use.width
    if use.side == "reads":
        return LinearShape(tokens, dims, units, read_from=through, bias=use.activated, activation=use.activated)
    return LinearShape(tokens, units, dims, write_to=through, bias=False)


def _rounded(size: float, width: int, steps: int) -> int:
    """To the nearest step of the residual width, at least one."""
    step = max(1, width // steps)
    return max(step, round(size / step) * step)
