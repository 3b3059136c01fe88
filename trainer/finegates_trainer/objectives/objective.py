"""What an objective answers: the penalty of a step, its correction after it, and which units stay in the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from finegates_export.gates.bank import GateBank
from finegates_export.gates.layout import UnitKey
from finegates_export.pruning.layer_options import Mask, Scores

State = Mapping[str, Tensor | float]
"""What a run that goes on needs, by name."""


@dataclass(frozen=True)
class Settlement:
    """Which units stay for good."""

    keep: dict[UnitKey, Mask]
    width: Mask | None = None
    """Which dims of a gated residual width stay."""
    words: str = ""
    """What was settled, as a person reads it."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the run folder records of it, as JSON types."""


class Objective(Protocol):
    """One way to ask for a smaller model. An aim of 0 is the whole model, of 1 nothing."""

    def gather(self) -> None:
        """After a step's backward pass, before its update: read what the gradients say."""

    def penalty(self, aim: float) -> Tensor:
        """What is added to the task loss while gates are pressed.

        Args:
            aim: what this step presses towards.
        """

    def correct(self, aim: float) -> None:
        """After a step's update: compare what evaluation would close with the aim."""

    def settle(self, aim: float) -> Settlement:
        """Decide which units stay."""

    def hold(self) -> None:
        """After an update on a settled structure: bring gates that left their bounds back."""

    def standing(self, aim: float) -> str:
        """How far it is, in a few words."""

    def state(self) -> State:
        """What a resumed run needs to go on."""

    def restore(self, state: State) -> None:
        """Put `state` back."""


def openness(bank: GateBank) -> dict[UnitKey, Scores]:
    """How open each unit is, shape (units,): what settling ranks by."""
    return without_closed(bank, {key: values.double().cpu().numpy() for key, values in bank.unit_scores().items()})


def without_closed(bank: GateBank, scores: Mapping[UnitKey, Scores]) -> dict[UnitKey, Scores]:
    """The scores, and -1 for each unit that an earlier level closed for good."""
    alive = bank.unit_products(bank.alive.float())
    return {key: np.where(alive[key].cpu().numpy() > 0, values, -1.0) for key, values in scores.items()}


def width_openness(bank: GateBank) -> Scores | None:
    """How open each dim of a gated residual width is; None without the gate."""
    scores = bank.width_scores()
    return None if scores is None else scores.double().cpu().numpy()


def settle_bank(bank: GateBank, settlement: Settlement) -> None:
    """Close what does not stay, for good."""
    bank.settle(
        {key: torch.from_numpy(mask) for key, mask in settlement.keep.items()},
        None if settlement.width is None else torch.from_numpy(settlement.width),
    )
