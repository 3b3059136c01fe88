"""The baseline to beat: the same units, ranked by their weights' magnitude after LoRA has learned; gates do not learn.

The schedule is that of gates: LoRA and head train, the smallest units are closed when the structure is settled, and the
rest continues training.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from finegates_export.gates.gated_model import GatedModel, plain_model
from finegates_export.gates.layout import UnitKey
from finegates_export.pruning.layer_options import Scores
from finegates_export.pruning.magnitude import magnitude_scores
from finegates_export.pruning.settle import settle
from finegates_export.pruning.widths import Widths
from finegates_trainer.objectives.objective import Settlement, State, without_closed


class MagnitudeObjective:
    """Presses nothing; settles by magnitude.

    Args:
        gated: the model, whose gates stay open until they are settled.
        widths: the widths that the target prefers.
    """

    def __init__(self, gated: GatedModel, widths: Widths) -> None:
        self.gated, self.widths = gated, widths
        self.structure = gated.gates.structure

    def gather(self) -> None:
        """Nothing to read."""

    def penalty(self, aim: float) -> Tensor:
        """Nothing."""
        _ = aim
        return torch.zeros((), device=self.gated.gates.mu.device)

    def correct(self, aim: float) -> None:
        """Nothing to correct."""

    def hold(self) -> None:
        """See `GateBank.hold`."""
        self.gated.gates.hold()

    def settle(self, aim: float) -> Settlement:
        """See `Objective`; units that an earlier level closed stay closed."""
        scores = without_closed(self.gated.gates, self._magnitudes())
        return Settlement(settle(scores, self.structure, aim, self.widths), words=f"{aim:.1%} asked, by magnitude")

    def standing(self, aim: float) -> str:
        """See `Objective`."""
        return f"removed {self.gated.gates.closed_share():.1%} (aim {aim:.1%})"

    def state(self) -> State:
        """Nothing."""
        return {}

    def restore(self, state: State) -> None:
        """Nothing."""

    @torch.no_grad()
    def _magnitudes(self) -> dict[UnitKey, Scores]:
        """Magnitudes of base weights and adapter together."""
        model: Any = self.gated.model
        plain: Any = plain_model(model)
        if plain is model:
            return magnitude_scores(plain, self.structure)
        weights = {path: plain.get_submodule(path).weight for path in self.structure.linears()}
        before = {path: weight.clone() for path, weight in weights.items()}
        model.merge_adapter()
        try:
            return magnitude_scores(plain, self.structure)
        finally:
            model.unmerge_adapter()
            for path, weight in before.items():
                weights[path].copy_(weight)  # adding and subtracting again changes the last bit
