"""The interface of objectives: a step's penalty, its correction, and which units stay in the end."""

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
"""State of a resumed run, by name."""


@dataclass(frozen=True)
class Settlement:
    """The units that stay for good."""

    keep: dict[UnitKey, Mask]
    width: Mask | None = None
    """The kept dims of a gated residual width."""
    words: str = ""
    """The settled structure, in words."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Its record in the run folder, as JSON types."""


class Objective(Protocol):
    """One way to make a model smaller. An aim of 0 keeps the whole model, an aim of 1 nothing."""

    def gather(self) -> None:
        """After a step's backward pass, before its update: read the gradients."""

    def penalty(self, aim: float) -> Tensor:
        """The penalty added to the task loss under pressure.

        Args:
            aim: the aim of this step.
        """

    def correct(self, aim: float) -> None:
        """After a step's update: compare what evaluation would close with the aim."""

    def settle(self, aim: float) -> Settlement:
        """Decide which units stay."""

    def hold(self) -> None:
        """After an update on a settled structure: bring gates back into their bounds."""

    def standing(self, aim: float) -> str:
        """Progress in a few words."""

    def state(self) -> State:
        """State for a resumed run."""

    def restore(self, state: State) -> None:
        """Restore `state`."""


def openness(bank: GateBank) -> dict[UnitKey, Scores]:
    """Openness of each unit, shape (units,), by which settling ranks."""
    return without_closed(bank, {key: values.double().cpu().numpy() for key, values in bank.unit_scores().items()})


def without_closed(bank: GateBank, scores: Mapping[UnitKey, Scores]) -> dict[UnitKey, Scores]:
    """The scores, and -1 for each unit that an earlier level closed for good."""
    alive = bank.unit_products(bank.alive.float())
    return {key: np.where(alive[key].cpu().numpy() > 0, values, -1.0) for key, values in scores.items()}


def width_openness(bank: GateBank) -> Scores | None:
    """Openness of each dim of a gated residual width; None without the gate."""
    scores = bank.width_scores()
    return None if scores is None else scores.double().cpu().numpy()


def settle_bank(bank: GateBank, settlement: Settlement) -> None:
    """Close everything else for good."""
    bank.settle(
        {key: torch.from_numpy(mask) for key, mask in settlement.keep.items()},
        None if settlement.width is None else torch.from_numpy(settlement.width),
    )
