"""Units ranked by what closing each would cost, closed a few at a time along the ramp; no penalty presses gates.

Closing a gate of value w whose gradient is g costs about (w g)^2, in units in which gates can be compared (Molchanov et
al., Importance Estimation for Neural Network Pruning, 2019; of an open gate the mean of g^2 is the Fisher information).
A gate that is fully open has hardly any slope towards closing, however much it matters: the loss is flat around what
was learned before. Pressure therefore moves all gates alike for a long way, and the squares tell them apart at once.

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
"""How much of the squares a step keeps."""
PERIOD = 4
"""Steps between two closings."""


class SensitivityObjective:
    """Closes what costs least, as much as the ramp asks for.

    Args:
        bank: the gates.
        budget: what an aim leaves.
    """

    def __init__(self, bank: GateBank, budget: Budget) -> None:
        self.bank, self.budget = bank, budget
        self.costs_N = torch.zeros_like(bank.mu.detach())
        self.pressed = 0

    @torch.no_grad()
    def gather(self) -> None:
        """After a backward pass: what its gradients say of every gate."""
        if self.bank.mu.grad is not None:
            squares_N = (self.bank.values() * self.bank.mu.grad).square()
            self.costs_N = MEMORY * self.costs_N + (1.0 - MEMORY) * squares_N

    def penalty(self, aim: float) -> Tensor:
        """Nothing."""
        _ = aim
        return torch.zeros((), device=self.bank.mu.device)

    def correct(self, aim: float) -> None:
        """Every few steps: close for good what the ramp has come to."""
        self.pressed += 1
        if self.pressed % PERIOD == 0:
            settle_bank(self.bank, Settlement(self.budget.keep(self.scores(), aim)))

    @torch.no_grad()
    def hold(self) -> None:
        """No gate is further open than open: there its gradient is 0, which would say that it costs nothing."""
        self.bank.hold()
        self.bank.mu.clamp_(max=OPEN_MU)

    def settle(self, aim: float) -> Settlement:
        """See `Objective`."""
        return self.budget.settle(self.scores(), aim)

    @torch.no_grad()
    def scores(self) -> dict[UnitKey, Scores]:
        """What closing each unit would cost, shape (units,): the least of what its gates cost."""
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
