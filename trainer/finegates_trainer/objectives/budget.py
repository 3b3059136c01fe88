"""A budget and the units that fit it: a share of the layers' linear weights, met to a weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from finegates_export.families.structure import Structure
from finegates_export.gates.layout import UnitKey
from finegates_export.pruning.layer_options import Mask, Scores
from finegates_export.pruning.settle import settle
from finegates_export.pruning.widths import Widths
from finegates_trainer.objectives.objective import Settlement, State


class Budget(Protocol):
    """The budget that an aim leaves for kept units."""

    def keep(self, scores: Mapping[UnitKey, Scores], aim: float) -> dict[UnitKey, Mask]:
        """The most valuable units within the budget, without measuring.

        Args:
            scores: what each unit is worth, shape (units,); negative for one that was closed for good.
            aim: 0 is the whole model, 1 nothing.
        """

    def settle(self, scores: Mapping[UnitKey, Scores], aim: float) -> Settlement:
        """The final choice, measured if the aim is a speed."""

    def state(self) -> State:
        """Measurements, for a resumed run."""

    def restore(self, state: State) -> None:
        """Restore `state`."""


@dataclass(frozen=True)
class ShareBudget:
    """An aim is a share of the weights.

    Args:
        structure: the model's units.
        widths: the widths that the target prefers.
    """

    structure: Structure
    widths: Widths

    def keep(
        self, scores: Mapping[UnitKey, Scores], aim: float, residual_width: int | None = None
    ) -> dict[UnitKey, Mask]:
        """See `Budget`; `residual_width`: kept dims of the residual stream, if a width gate closed some."""
        return settle(scores, self.structure, aim, self.widths, residual_width=residual_width)

    def settle(self, scores: Mapping[UnitKey, Scores], aim: float, width: Mask | None = None) -> Settlement:
        """See `Budget`; `width`: which of those dims are kept."""
        keep = self.keep(scores, aim, None if width is None else int(width.sum()))
        return Settlement(keep, width, f"{aim:.1%} of the weights asked to go")

    def state(self) -> State:
        """Nothing is measured."""
        return {}

    def restore(self, state: State) -> None:
        """Nothing."""
