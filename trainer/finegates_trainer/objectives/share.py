"""A share of the layers' weights to remove: held by a multiplier, met to a weight when the structure is settled."""

from __future__ import annotations

from torch import Tensor

from finegates_export.families.structure import Structure
from finegates_export.gates.bank import GateBank
from finegates_export.pruning.settle import settle_width
from finegates_export.pruning.widths import Widths
from finegates_trainer.objectives.budget import ShareBudget
from finegates_trainer.objectives.constraint import Constraint
from finegates_trainer.objectives.objective import Settlement, State, openness, width_openness


class SettledByShare:
    """Common part of objectives that settle at a share of the weights.

    Args:
        bank: the gates.
        structure: the model's units.
        widths: the widths that the target prefers.
        sigma: of the penalty's P(open).
    """

    def __init__(self, bank: GateBank, structure: Structure, widths: Widths, sigma: float) -> None:
        self.bank, self.budget, self.sigma = bank, ShareBudget(structure, widths), sigma

    def gather(self) -> None:
        """Nothing to read."""

    def hold(self) -> None:
        """See `GateBank.hold`."""
        self.bank.hold()

    def settle(self, aim: float) -> Settlement:
        """Keep the most open units such that `aim` of the weights is removed."""
        scores = width_openness(self.bank)
        width = None if scores is None else settle_width(scores, aim)
        return self.budget.settle(openness(self.bank), aim, width)

    def standing(self, aim: float) -> str:
        """See `Objective`."""
        return f"removed {self.bank.closed_share():.1%} (aim {aim:.1%})"


class ShareObjective(SettledByShare):
    """Presses the expected kept share of weights down to `1 - aim`; see `SettledByShare`."""

    def __init__(self, bank: GateBank, structure: Structure, widths: Widths, sigma: float) -> None:
        super().__init__(bank, structure, widths, sigma)
        self.constraint = Constraint()

    def penalty(self, aim: float) -> Tensor:
        """See `Objective`."""
        return self.constraint.penalty(self.bank.expected_kept_share(self.sigma), 1.0 - aim)

    def correct(self, aim: float) -> None:
        """See `Objective`."""
        self.constraint.correct(1.0 - self.bank.closed_share(), 1.0 - aim)

    def state(self) -> State:
        """See `Objective`."""
        return self.constraint.state()

    def restore(self, state: State) -> None:
        """See `Objective`."""
        self.constraint.restore(state)
