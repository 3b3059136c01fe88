"""An augmented Lagrangian that holds an expected quantity at a bound.

    penalty = lambda * c + rho / 2 * c^2        c = expected - bound - offset

`lambda` follows `c`, so the bound is met regardless of the task loss's scale. The expectation uses the smooth P(open)
and differs from the value in evaluation, so `offset` follows the difference between the two.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from finegates_trainer.objectives.objective import State

RHO = 50.0
MULTIPLIER_RATE = 0.05
"""How fast lambda follows the violation. A gate takes a while to close, and until then counts as open in
evaluation: a faster multiplier closes far more than asked, and nearly all at once."""
OFFSET_RATE = 0.02
OFFSET_LIMIT = 0.5


@dataclass
class Offset:
    """The difference between expectation and bound at which evaluation meets the bound."""

    value: float = 0.0

    def correct(self, reached: float, bound: float) -> None:
        """After a step: lower where evaluation is above the bound, higher where it is below.

        Args:
            reached: the quantity in evaluation.
            bound: its bound.
        """
        self.value = min(OFFSET_LIMIT, max(-OFFSET_LIMIT, self.value + OFFSET_RATE * (bound - reached)))


@dataclass
class Constraint:
    """The current multiplier and offset."""

    multiplier: float = 0.0
    offset: Offset = field(default_factory=Offset)

    def penalty(self, expected: Tensor, bound: float) -> Tensor:
        """The penalty added to the task loss; also updates the multiplier.

        Args:
            expected: the quantity under the gates' open probabilities.
            bound: its bound.
        """
        violation = expected - bound - self.offset.value
        penalty = self.multiplier * violation + 0.5 * RHO * violation**2
        self.multiplier = max(0.0, self.multiplier + MULTIPLIER_RATE * float(violation.detach()))
        return penalty

    def correct(self, reached: float, bound: float) -> None:
        """See `Offset.correct`."""
        self.offset.correct(reached, bound)

    def state(self) -> State:
        """Both numbers, by name."""
        return {"multiplier": self.multiplier, "offset": self.offset.value}

    def restore(self, state: State) -> None:
        """Restore `state`."""
        self.multiplier, self.offset.value = float(state["multiplier"]), float(state["offset"])
