"""A speed to reach: expected milliseconds under the gates, held by a multiplier.

What widths cost comes from a table measured on this machine; of decoders it is counted (see `counted_costs`).

The aim is the share of the unpruned model's time to save: 1 - 1 / speed-up. When the structure is settled the whole
ONNX model is written and timed against the unpruned one, and the budget is corrected until the measured speed-up is
the one that was asked for: the table says where a millisecond is cheapest, the model itself says when it is enough.

Shapes: L layers, h heads, d units of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from finegates_export.errors import InputError
from finegates_export.families.structure import Structure
from finegates_export.gates.bank import GateBank
from finegates_export.gates.gate import open_probability
from finegates_export.gates.layer_options import Scores, Sizes
from finegates_export.gates.layout import UnitKey
from finegates_export.gates.settle import Mask, Widths, settle_within
from finegates_export.measure.counted_costs import SublayerCosts
from finegates_export.measure.statistics import Interval
from finegates_trainer.objectives.constraint import Constraint
from finegates_trainer.objectives.interpolation import SmoothGrid, TiltedGrid
from finegates_trainer.objectives.objective import Settlement, openness

if TYPE_CHECKING:
    from finegates_export.speed_probe import Anchor, SpeedProbe

MOST_PROBES = 6
"""Structures that are written and timed at most when one level is settled."""
CLOSE_ENOUGH = 0.01
"""Of the speed-up that was asked for; the next structure would not be told apart from this one."""


@dataclass(frozen=True)
class TimeCosts:
    """Milliseconds of sublayers, as settling asks for them."""

    layers: Sequence[SublayerCosts]

    def attention(self, layer: int, heads: Sizes, qk: Sizes, vo: Sizes) -> Scores:
        """See `gates.layer_options.Costs`."""
        return self.layers[layer].attention_ms(heads, qk, vo)

    def feed_forward(self, layer: int, neurons: Sizes) -> Scores:
        """See `gates.layer_options.Costs`."""
        return self.layers[layer].feed_forward_ms(neurons)


class _Tables:
    """The two tables of layers that are alike."""

    def __init__(
        self, kind: type[SmoothGrid] | type[TiltedGrid], costs: SublayerCosts, layers: list[int], device: torch.device
    ) -> None:
        self.layers = layers
        self.attention, self.feed_forward = kind(costs.attention, device), kind(costs.feed_forward, device)


class LatencyObjective:
    """Presses the expected time down to `1 - aim` of the unpruned model's.

    Args:
        bank: the gates.
        structure: the model's units.
        widths: the widths to choose among.
        sigma: of P(open).
        costs: milliseconds by widths, one a layer.
        anchor: what the whole unpruned model takes, and what it takes beside its layers.
        probe: writes and times a whole model.
    """

    def __init__(
        self,
        bank: GateBank,
        structure: Structure,
        widths: Widths,
        sigma: float,
        costs: Sequence[SublayerCosts],
        anchor: Anchor,
        probe: SpeedProbe,
    ) -> None:
        self.bank, self.structure, self.widths, self.sigma = bank, structure, widths, sigma
        self.costs, self.anchor, self.probe = costs, anchor, probe
        self.constraint = Constraint()
        device = bank.mu.device
        # Layers of one form share one table.
        shared: dict[int, list[int]] = {}
        for index, cost in enumerate(costs):
            shared.setdefault(id(cost), []).append(index)
        self._exact = [_Tables(SmoothGrid, costs[layers[0]], layers, device) for layers in shared.values()]
        self._tilted = [_Tables(TiltedGrid, costs[layers[0]], layers, device) for layers in shared.values()]

    def penalty(self, aim: float) -> Tensor:
        """See `Objective`."""
        open_N = open_probability(self.bank.mu, self.sigma) * self.bank.alive
        return self.constraint.penalty(self._time_share(open_N, self._tilted), 1.0 - aim)

    @torch.no_grad()
    def correct(self, aim: float) -> None:
        """See `Objective`."""
        self.constraint.correct(self.evaluated_time_share(), 1.0 - aim)

    def settle(self, aim: float) -> Settlement:
        """The structure whose measured speed-up comes nearest to the one asked for; see the module's text."""
        asked = 1.0 / (1.0 - aim)
        scores, costs = openness(self.bank), TimeCosts(self.costs)
        budget = self.anchor.layers_ms_for(asked)
        tried: list[tuple[float, dict[UnitKey, Mask], Interval]] = []
        while len(tried) < MOST_PROBES:
            keep = settle_within(scores, self.structure, self.widths, costs, max(0.0, budget))
            measured = self.probe.speedup(keep)
            tried.append((abs(measured.median / asked - 1.0), keep, measured))
            if tried[-1][0] <= CLOSE_ENOUGH:
                break
            missing = self.anchor.unpruned * (1.0 / asked - 1.0 / measured.median)
            budget += missing / self.anchor.factor
        _, keep, measured = min(tried, key=lambda attempt: attempt[0])
        facts = {
            "asked": asked,
            "measured": measured.median,
            "low": measured.low,
            "high": measured.high,
            "rounds": measured.rounds,
            "structures_timed": len(tried),
        }
        words = f"{measured.median:.2f}x ({measured.low:.2f} to {measured.high:.2f}) measured, {asked:.2f}x asked"
        return Settlement(keep, words=words, facts={"speedup": facts})

    def standing(self, aim: float) -> str:
        """See `Objective`."""
        return f"{1 / self.evaluated_time_share():.2f}x expected (aim {1 / (1 - aim):.2f}x)"

    @torch.no_grad()
    def evaluated_time_share(self) -> float:
        """The time of what evaluation leaves open over the unpruned model's, by the table."""
        return float(self._time_share((self.bank.values() > 0).float(), self._exact))

    def state(self) -> dict[str, float]:
        """See `Objective`; the measured anchor belongs to it, or a resumed run would press towards another time."""
        anchor = {"unpruned": self.anchor.unpruned, "rest": self.anchor.rest, "factor": self.anchor.factor}
        return {**self.constraint.state(), **anchor}

    def restore(self, state: dict[str, float]) -> None:
        """See `Objective`."""
        self.constraint.restore(state)
        self.anchor = type(self.anchor)(state["unpruned"], state["rest"], state["factor"])

    def _time_share(self, gates_N: Tensor, tables: Sequence[_Tables]) -> Tensor:
        """The whole model's expected time over the unpruned model's."""
        products = self.bank.unit_products(gates_N)
        total = torch.zeros((), device=gates_N.device)
        for table in tables:
            sizes = [self._expected_sizes(layer, products) for layer in table.layers]
            heads_L, qk_L, vo_L, neurons_L = (torch.stack(column) for column in zip(*sizes, strict=True))
            total = total + table.attention(heads_L, qk_L, vo_L).sum() + table.feed_forward(neurons_L).sum()
        return (self.anchor.rest + self.anchor.factor * total) / self.anchor.unpruned

    def _expected_sizes(self, layer: int, products: dict[UnitKey, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Heads, Q/K and V/O dims a head, neurons. A head is there as far as its most open V/O dim is."""
        qk, vo, _ = self.structure.layers[layer].groups()
        qk_hd, vo_hd = products[layer, "qk"].view(qk.heads, -1), products[layer, "vo"].view(vo.heads, -1)
        heads = vo_hd.amax(1).sum()
        each = heads.clamp(min=1e-3)
        return heads, qk.rows_per_unit * qk_hd.sum() / each, vo_hd.sum() / each, products[layer, "ffn"].sum()


def check_reachable(anchor: Anchor, speedups: Sequence[float], shape: str) -> None:
    """Refuse a speed-up that the model does not reach with every layer closed.

    Raises:
        InputError: with the fastest that can be reached.
    """
    fastest = anchor.speedup(0.0)
    for asked in speedups:
        if asked >= fastest:
            raise InputError(
                f"target-speedup: {asked:g}x cannot be reached at {shape}: with every layer closed this model is "
                f"{fastest:.2f}x as fast as unpruned, the rest being embeddings, norms and head; ask for less"
            )
