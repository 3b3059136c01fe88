"""An augmented Lagrangian that holds an expected quantity at a bound.

    penalty = lambda * c + rho / 2 * c^2        c = expected - bound - offset

`lambda` follows `c`, so the bound is met whatever the task loss weighs. The expectation uses the smooth P(open) and
differs from what evaluation really gives, so `offset` follows the difference between the two.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from finegates_trainer.objectives.objective import State

RHO = 50.0
MULTIPLIER_RATE = 0.05
"""How fast lambda follows the violation. A gate has some way to go before it closes, and until then nothing is
evaluated as closed: a multiplier that gathers faster closes far more than was asked, and nearly all at once."""
OFFSET_RATE = 0.02
OFFSET_LIMIT = 0.5


@dataclass
class Offset:
    """How far an expectation has to be from the bound for evaluation to be at it."""

    value: float = 0.0

    def correct(self, reached: float, bound: float) -> None:
        """After a step: lower where evaluation is above the bound, higher where it is below.

        Args:
            reached: the quantity in evaluation.
            bound: what it may be.
        """
        self.value = min(OFFSET_LIMIT, max(-OFFSET_LIMIT, self.value + OFFSET_RATE * (bound - reached)))


@dataclass
class Constraint:
    """The multiplier and the offset, as they stand."""

    multiplier: float = 0.0
    offset: Offset = field(default_factory=Offset)

    def penalty(self, expected: Tensor, bound: float) -> Tensor:
        """What is added to the task loss; moves the multiplier as well.

        Args:
            expected: the quantity under the gates' open probabilities.
            bound: what it may be.
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
        """Put `state` back."""
        self.multiplier, self.offset.value = float(state["multiplier"]), float(state["offset"])
