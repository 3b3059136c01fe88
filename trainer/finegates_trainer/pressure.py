"""What presses gates shut: an augmented Lagrangian on the expected kept share.

    penalty = lambda * c + rho / 2 * c^2        c = expected kept share - (1 - aim) - offset

`lambda` follows `c`, so the constraint is met whatever the task loss weighs. The expected share uses the smooth
P(open) and differs from what evaluation really closes, so `offset` follows the difference between the two.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from finegates_export.gates.bank import GateBank

RHO = 50.0
OFFSET_RATE = 0.02
OFFSET_LIMIT = 0.5


@dataclass
class Pressure:
    """The multiplier and the offset, as they stand."""

    sigma: float
    multiplier: float = 0.0
    offset: float = 0.0

    def penalty(self, bank: GateBank, aim: float) -> Tensor:
        """What is added to the task loss; moves the multiplier as well."""
        violation = bank.expected_kept_share(self.sigma) - (1.0 - aim) - self.offset
        penalty = self.multiplier * violation + 0.5 * RHO * violation**2
        self.multiplier = max(0.0, self.multiplier + float(violation.detach()))
        return penalty

    def correct(self, closed: float, aim: float) -> None:
        """After a step: lower the aim in expectation where evaluation closed too little, raise it where too much."""
        moved = self.offset + OFFSET_RATE * (closed - aim)
        self.offset = min(OFFSET_LIMIT, max(-OFFSET_LIMIT, moved))
