"""The authors' second objective: weight * mean over gate vectors of |mean P(open) - keep|.

The closed share in evaluation differs from P(open), so `keep` is corrected step by step until evaluation meets the
aim. The absolute value has a kink: see docs/gates.md for what the paper's proposition does not cover.
"""

from __future__ import annotations

from torch import Tensor

from finegates_export.families.structure import Structure
from finegates_export.gates.bank import GateBank
from finegates_export.gates.gate import open_probability
from finegates_export.pruning.widths import Widths
from finegates_trainer.objectives.constraint import Offset
from finegates_trainer.objectives.objective import State
from finegates_trainer.objectives.share import SettledByShare


class TargetObjective(SettledByShare):
    """Pulls the mean open probability of every gate vector to the kept share.

    Args:
        bank: the gates.
        structure: the model's units.
        widths: the widths that the target prefers.
        sigma: sigma of P(open).
        weight: weight of the penalty.
    """

    def __init__(self, bank: GateBank, structure: Structure, widths: Widths, sigma: float, weight: float) -> None:
        super().__init__(bank, structure, widths, sigma)
        self.weight, self.offset = weight, Offset()

    def penalty(self, aim: float) -> Tensor:
        """See `Objective`."""
        open_N = open_probability(self.bank.mu, self.sigma) * self.bank.alive
        keep = min(1.0, max(0.0, 1.0 - aim + self.offset.value))
        return self.weight * (self.bank.means(open_N) - keep).abs().mean()

    def correct(self, aim: float) -> None:
        """See `Objective`."""
        self.offset.correct(1.0 - self.bank.closed_share(), 1.0 - aim)

    def state(self) -> State:
        """See `Objective`."""
        return {"offset": self.offset.value}

    def restore(self, state: State) -> None:
        """See `Objective`."""
        self.offset.value = float(state["offset"])
