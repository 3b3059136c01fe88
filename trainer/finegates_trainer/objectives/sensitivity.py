"""Units ranked by the cost of closing each, closed a few at a time along the ramp, without a penalty.

Closing a gate of value w whose gradient is g costs about (w g)^2, in units in which gates can be compared (Molchanov et
al., Importance Estimation for Neural Network Pruning, 2019; of an open gate the mean of g^2 is the Fisher information).
A fully open gate has hardly any slope towards closing, however important it is: the loss is flat around what was
learned before. Pressure therefore moves all gates alike for a long time, while the squares separate them at once.

Shapes: N gates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from finegates_export.gates.bank import GateBank
from finegates_export.gates.gate import OPEN_MU
from finegates_export.gates.layout import UnitKey
from finegates_export.pruning.layer_options import Scores
from finegates_trainer.objectives.budget import Budget
from finegates_trainer.objectives.objective import Settlement, State, settle_bank, without_closed

MEMORY = 0.98
"""Decay of the running mean of squares per step."""
PERIOD = 4
"""Steps between closings."""


class SensitivityObjective:
    """Closes the least costly units, as many as the ramp asks for.

    Args:
        bank: the gates.
        budget: the budget that an aim leaves.
    """

    def __init__(self, bank: GateBank, budget: Budget) -> None:
        self.bank, self.budget = bank, budget
        self.costs_N = torch.zeros_like(bank.mu.detach())
        self.pressed = 0

    @torch.no_grad()
    def gather(self) -> None:
        """After a backward pass: update every gate's estimate from its gradients."""
        if self.bank.mu.grad is not None:
            squares_N = (self.bank.values() * self.bank.mu.grad).square()
            self.costs_N = MEMORY * self.costs_N + (1.0 - MEMORY) * squares_N

    def penalty(self, aim: float) -> Tensor:
        """Nothing."""
        _ = aim
        return torch.zeros((), device=self.bank.mu.device)

    def correct(self, aim: float) -> None:
        """Every few steps: close units for good, as far as the ramp has come."""
        self.pressed += 1
        if self.pressed % PERIOD == 0:
            settle_bank(self.bank, Settlement(self.budget.keep(self.scores(), aim)))

    @torch.no_grad()
    def hold(self) -> None:
        """Clamp gates to fully open: beyond, the gradient is 0, which would mean a cost of 0."""
        self.bank.hold()
        self.bank.mu.clamp_(max=OPEN_MU)

    def settle(self, aim: float) -> Settlement:
        """See `Objective`."""
        return self.budget.settle(self.scores(), aim)

    @torch.no_grad()
    def scores(self) -> dict[UnitKey, Scores]:
        """The cost of closing each unit, shape (units,): the least cost of its gates."""
        least = self.bank.unit_least(self.costs_N)
        return without_closed(self.bank, {key: values.double().cpu().numpy() for key, values in least.items()})

    def standing(self, aim: float) -> str:
        """See `Objective`."""
        return f"removed {self.bank.closed_share():.1%} (aim {aim:.1%})"

    def state(self) -> State:
        """See `Objective`."""
        return {**self.budget.state(), "pressed": self.pressed, "costs": self.costs_N}

    def restore(self, state: State) -> None:
        """See `Objective`."""
        self.budget.restore(state)
        self.pressed = int(state["pressed"])
        self.costs_N = torch.as_tensor(state["costs"]).to(self.costs_N).clone()
