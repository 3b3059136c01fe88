"""Whether int8 slows a linear down, by the cost table of the machine."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from finegates_export.costs.blocks.linear_shape import LinearShape
from finegates_export.costs.cost_table import CostTable
from finegates_export.costs.timing.block_times import Precision
from finegates_export.pruning.slow_linears import LinearSize

PRECISION = Precision(half_width=0.04, seconds=2.0)
"""Most linears are far from the break-even point, so a coarse answer is enough."""
STEPS_AN_OCTAVE = 4
"""Sizes are rounded to this many steps between powers of two, so that layers share measurements."""


@dataclass(frozen=True)
class Int8Judge:
    """Compares a float product with its int8 form, measured side by side.

    Biases are omitted: they cost the same in both.
    """

    table: CostTable
    tokens: int
    """Batch times sequence at which the linears are measured."""

    def __call__(self, size: LinearSize) -> str | None:
        """See `slow_linears.Judge`. If in doubt, int8 is kept, since it takes a quarter of the memory."""
        shape = LinearShape(
            self.tokens,
            _rounded(size.inputs, size.read_from),
            _rounded(size.outputs, size.write_to),
            size.read_from,
            size.write_to,
            bias=False,
        )
        decision = self.table.cheaper([dataclasses.replace(shape, precision="int8")], [shape])
        if decision.chosen == "a":
            return None
        ratio, low, high = (1 / value for value in (decision.ratio, decision.high, decision.low))
        return f"is kept in float: int8 takes {ratio:.2f} of the time ({low:.2f} to {high:.2f}) at {self.tokens} tokens"


def _rounded(size: int, most: int | None) -> int:
    """To the nearest step, at most the dims that a gather reads or writes."""
    step = max(1, (1 << (size.bit_length() - 1)) // STEPS_AN_OCTAVE)
    return min(round(size / step) * step, most or size + step)
