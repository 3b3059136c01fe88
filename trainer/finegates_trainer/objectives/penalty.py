"""The paper's first objective: task loss + weight * mean P(open). The weight decides how much closes.

FineGates (Svirsky, Refael, Lindenbaum), section 3; P(open) = Phi((mu + 0.5) / sigma), the mean over all gates.
"""

from __future__ import annotations

from torch import Tensor

from finegates_export.families.structure import Structure
from finegates_export.gates.bank import GateBank
from finegates_export.gates.gate import open_probability
from finegates_export.pruning.widths import Widths
from finegates_trainer.objectives.objective import Settlement, State
from finegates_trainer.objectives.share import SettledByShare


class PenaltyObjective(SettledByShare):
    """Weighs the mean open probability against the task; no share is aimed at.

    Args:
        bank: the gates.
        structure: the model's units.
        widths: the widths that the target prefers.
        sigma: sigma of P(open).
        weight: weight of the penalty.
    """

    def __init__(self, bank: GateBank, structure: Structure, widths: Widths, sigma: float, weight: float) -> None:
        super().__init__(bank, structure, widths, sigma)
        self.weight = weight

    def penalty(self, aim: float) -> Tensor:
        """See `Objective`; the aim is not used."""
        _ = aim
        return self.weight * open_probability(self.bank.mu, self.sigma).mean()

    def correct(self, aim: float) -> None:
        """Nothing to correct: there is no aim."""

    def settle(self, aim: float) -> Settlement:
        """Removes what evaluation closes; heads of a layer get equal widths."""
        _ = aim
        return super().settle(self.bank.closed_share())

    def standing(self, aim: float) -> str:
        """See `Objective`."""
        _ = aim
        return f"removed {self.bank.closed_share():.1%}"

    def state(self) -> State:
        """Nothing."""
        return {}

    def restore(self, state: State) -> None:
        """Nothing."""
