"""A target speed by pressure: expected milliseconds under the gates, held by a multiplier; see `SpeedBudget`.

Shapes: L layers, h heads, d units per head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from finegates_export.costs.counted_costs import SublayerCosts
from finegates_export.gates.bank import GateBank
from finegates_export.gates.gate import open_probability
from finegates_export.gates.layout import UnitKey
from finegates_trainer.objectives.constraint import Constraint
from finegates_trainer.objectives.interpolation import SmoothGrid, TiltedGrid
from finegates_trainer.objectives.objective import Settlement, State, openness
from finegates_trainer.objectives.speed_budget import SpeedBudget


class _Tables:
    """The two tables of layers of one form."""

    def __init__(
        self, kind: type[SmoothGrid] | type[TiltedGrid], costs: SublayerCosts, layers: list[int], device: torch.device
    ) -> None:
        self.layers = layers
        self.attention, self.feed_forward = kind(costs.attention, device), kind(costs.feed_forward, device)


class LatencyObjective:
    """Presses the expected time down to `1 - aim` of the unpruned model's.

    Args:
        bank: the gates.
        sigma: of P(open).
        budget: costs of widths, the whole model's time, and its probe.
    """

    def __init__(self, bank: GateBank, sigma: float, budget: SpeedBudget) -> None:
        self.bank, self.sigma, self.budget = bank, sigma, budget
        self.constraint = Constraint()
        device = bank.mu.device
        # Layers of one form share one table.
        shared: dict[int, list[int]] = {}
        for index, cost in enumerate(budget.costs):
            shared.setdefault(id(cost), []).append(index)
        self._exact = [_Tables(SmoothGrid, budget.costs[layers[0]], layers, device) for layers in shared.values()]
        self._tilted = [_Tables(TiltedGrid, budget.costs[layers[0]], layers, device) for layers in shared.values()]

    def gather(self) -> None:
        """Nothing to read."""

    def penalty(self, aim: float) -> Tensor:
        """See `Objective`."""
        open_N = open_probability(self.bank.mu, self.sigma) * self.bank.alive
        return self.constraint.penalty(self._time_share(open_N, self._tilted), 1.0 - aim)

    @torch.no_grad()
    def correct(self, aim: float) -> None:
        """See `Objective`."""
        self.constraint.correct(self.evaluated_time_share(), 1.0 - aim)

    def hold(self) -> None:
        """See `GateBank.hold`."""
        self.bank.hold()

    def settle(self, aim: float) -> Settlement:
        """See `SpeedBudget.settle`."""
        return self.budget.settle(openness(self.bank), aim)

    def standing(self, aim: float) -> str:
        """See `Objective`."""
        return f"{1 / self.evaluated_time_share():.2f}x expected (aim {1 / (1 - aim):.2f}x)"

    @torch.no_grad()
    def evaluated_time_share(self) -> float:
        """The time of the units open in evaluation, as a share of the unpruned model's, by the table."""
        return float(self._time_share((self.bank.values() > 0).float(), self._exact))

    def state(self) -> State:
        """See `Objective`."""
        return {**self.constraint.state(), **self.budget.state()}

    def restore(self, state: State) -> None:
        """See `Objective`."""
        self.constraint.restore(state)
        self.budget.restore(state)

    def _time_share(self, gates_N: Tensor, tables: Sequence[_Tables]) -> Tensor:
        """The whole model's expected time as a share of the unpruned model's."""
        products = self.bank.unit_products(gates_N)
        total = torch.zeros((), device=gates_N.device)
        for table in tables:
            sizes = [self._expected_sizes(layer, products) for layer in table.layers]
            heads_L, qk_L, vo_L, neurons_L = (torch.stack(column) for column in zip(*sizes, strict=True))
            total = total + table.attention(heads_L, qk_L, vo_L).sum() + table.feed_forward(neurons_L).sum()
        anchor = self.budget.anchor
        return (anchor.rest + anchor.factor * total) / anchor.unpruned

    def _expected_sizes(self, layer: int, products: dict[UnitKey, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Heads, Q/K and V/O dims per head, neurons. A head is as open as its most open V/O dim."""
        qk, vo, _ = self.budget.structure.layers[layer].groups()
        qk_hd, vo_hd = products[layer, "qk"].view(qk.heads, -1), products[layer, "vo"].view(vo.heads, -1)
        heads = vo_hd.amax(1).sum()
        each = heads.clamp(min=1e-3)
        return heads, qk.rows_per_unit * qk_hd.sum() / each, vo_hd.sum() / each, products[layer, "ffn"].sum()
