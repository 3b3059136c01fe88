"""The options of one layer: every (heads, Q/K width, V width) and every feed-forward width, with value and cost.

Values are summed scores of kept units. Costs are in the budget's unit: weights or milliseconds.

A unit with a negative score was closed for good: no option has it.

Shapes: h heads, d units per head, n numbers of heads from 1, q and v allowed widths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from finegates_export.families.structure import Structure, UnitGroup, UnitKind
from finegates_export.gates.layout import UnitKey
from finegates_export.pruning.widths import Sizes, Widths

Scores = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

TIE = 1e-9
"""Share of an attention's value: smaller differences in gain are rounding."""
WHOLE_HEADS = 2**31
"""A multiple that no head has: a head keeps its width or is removed."""


class Costs(Protocol):
    """The cost of a layer's sublayers at given widths; arrays broadcast against each other."""

    def attention(self, layer: int, heads: Sizes, qk: Sizes, vo: Sizes) -> Scores:
        """Cost of an attention with this many heads, Q/K dims and V/O dims per head."""

    def feed_forward(self, layer: int, neurons: Sizes) -> Scores:
        """Cost of a feed-forward network with this many neurons; 0 for none."""


@dataclass(frozen=True)
class WeightCosts:
    """Elements of the linears' weights."""

    structure: Structure
    residual_width: int

    def attention(self, layer: int, heads: Sizes, qk: Sizes, vo: Sizes) -> Scores:
        """See `Costs`."""
        dims = self._unit_weights(layer, "qk") * qk + self._unit_weights(layer, "vo") * vo
        return np.asarray(self.residual_width * heads * dims, np.float64)

    def feed_forward(self, layer: int, neurons: Sizes) -> Scores:
        """See `Costs`."""
        return np.asarray(self.residual_width * self._unit_weights(layer, "ffn") * neurons, np.float64)

    def _unit_weights(self, layer: int, kind: UnitKind) -> float:
        group = next(group for group in self.structure.layers[layer].groups() if group.kind == kind)
        return group.unit_weights / group.rows_per_unit


@dataclass
class Choice:
    """One option of a layer; widths in units."""

    heads: int
    qk: int
    vo: int
    ffn: int


class LayerOptions:
    """The options of one layer, as tables that allow choosing at a price with a few array operations.

    Args:
        structure: the model's units.
        index: the layer.
        scores: value of each unit per unit group, shape (units,).
        widths: the widths to choose among.
        costs: their costs.
    """

    def __init__(
        self, structure: Structure, index: int, scores: Mapping[UnitKey, Scores], widths: Widths, costs: Costs
    ) -> None:
        self.index = index
        qk, vo, ffn = structure.layers[index].groups()
        self.groups: tuple[UnitGroup, UnitGroup, UnitGroup] = (qk, vo, ffn)
        self.qk_widths = widths.head_options(qk.width * qk.rows_per_unit, qk.rows_per_unit)
        self.vo_widths = widths.head_options(vo.width)
        self.ffn_widths = widths.ffn_options(ffn.width)
        self._qk_hd = _of_heads(scores[index, "qk"], qk)
        self._vo_hd = _of_heads(scores[index, "vo"], vo)
        self._ffn_scores = scores[index, "ffn"]
        worth_h = np.maximum(self._qk_hd, 0.0).sum(1) + np.maximum(self._vo_hd, 0.0).sum(1)
        self._head_order = np.argsort(-worth_h, kind="stable")
        self._ffn_order = np.argsort(-self._ffn_scores, kind="stable")
        qk_value = self._head_values("qk", self._qk_hd, self.qk_widths)
        vo_value = self._head_values("vo", self._vo_hd, self.vo_widths)
        self._head_value_nqv = qk_value[:, :, None] + vo_value[:, None, :]
        heads_n = np.arange(1, qk.heads + 1)
        dims = (self.qk_widths * qk.rows_per_unit)[None, :, None], self.vo_widths[None, None, :]
        self._head_cost_nqv = costs.attention(index, heads_n[:, None, None], *dims)
        values = np.concatenate([np.zeros(1), np.cumsum(self._ffn_scores[self._ffn_order])])[self.ffn_widths]
        self._ffn_value = np.where(self.ffn_widths > (self._ffn_scores >= 0).sum(), -np.inf, values)
        self._ffn_cost = costs.feed_forward(index, self.ffn_widths)

    def choose(self, price: float) -> Choice:
        """The option of greatest value minus `price` per unit of cost."""
        gain_nqv = self._head_value_nqv - price * self._head_cost_nqv
        ffn = int(self.ffn_widths[int((self._ffn_value - price * self._ffn_cost).argmax())])
        n, q, v = np.unravel_index(int(gain_nqv.argmax()), gain_nqv.shape)
        if gain_nqv[n, q, v] <= 0:
            return Choice(0, 0, 0, ffn)
        return Choice(int(n) + 1, int(self.qk_widths[q]), int(self.vo_widths[v]), ffn)

    def dearest_tie(self, choice: Choice, price: float, rest: float) -> Choice:
        """Of the options with equal gain, the one with the most expensive heads that fit.

        Args:
            choice: the chosen option.
            price: the price.
            rest: how much more another option may cost.
        """
        gain_nqv = self._head_value_nqv - price * self._head_cost_nqv
        least = max(0.0, float(gain_nqv.max())) - TIE * float(self._head_value_nqv.max(initial=0.0))
        own = self._attention_cost(choice.heads, choice.qk, choice.vo)
        fits_nqv = (gain_nqv >= least) & (self._head_cost_nqv <= own + rest)
        cost_nqv = np.where(fits_nqv, self._head_cost_nqv, -np.inf)
        n, q, v = np.unravel_index(int(cost_nqv.argmax()), cost_nqv.shape)
        if cost_nqv[n, q, v] <= own:
            return choice
        return Choice(int(n) + 1, int(self.qk_widths[q]), int(self.vo_widths[v]), choice.ffn)

    def cost(self, choice: Choice) -> float:
        """The cost of an option."""
        return self._attention_cost(choice.heads, choice.qk, choice.vo) + self._neurons_cost(choice.ffn)

    def masks(self, choice: Choice) -> dict[UnitKey, Mask]:
        """The option as masks over the layer's units: True stays."""
        kept_heads = self._head_order[: choice.heads]
        ffn = np.zeros(len(self._ffn_scores), bool)
        ffn[self._ffn_order[: choice.ffn]] = True
        return {
            (self.index, "qk"): _best_dims(self._qk_hd, kept_heads, choice.qk),
            (self.index, "vo"): _best_dims(self._vo_hd, kept_heads, choice.vo),
            (self.index, "ffn"): ffn,
        }

    def wider_network(self, choice: Choice) -> tuple[int, float, float] | None:
        """The next wider feed-forward network: its width, the value and the cost that it adds; None at the widest."""
        at = int(np.searchsorted(self.ffn_widths, choice.ffn))
        if at + 1 >= len(self.ffn_widths) or np.isneginf(self._ffn_value[at + 1]):
            return None
        value, cost = (float(table[at + 1] - table[at]) for table in (self._ffn_value, self._ffn_cost))
        return int(self.ffn_widths[at + 1]), value, cost

    def narrower_network(self, choice: Choice, saving: float) -> int | None:
        """The widest feed-forward network that saves at least this much; None if there is none."""
        fits = self.ffn_widths[self._ffn_cost <= self._neurons_cost(choice.ffn) - saving]
        return int(fits[-1]) if fits.size else None

    def wider_heads(self, choice: Choice) -> list[tuple[float, str, int]]:
        """The extra cost of the next wider Q/K or V/O width of the kept heads: cost, field, width."""
        steps = []
        for kind, widths in (("qk", self.qk_widths), ("vo", self.vo_widths)):
            wider = widths[widths > getattr(choice, kind)]
            if choice.heads and wider.size and wider[0] <= self._most(kind)[choice.heads - 1]:
                grown = {"qk": choice.qk, "vo": choice.vo, kind: int(wider[0])}
                more = self._attention_cost(choice.heads, **grown) - self._attention_cost(
                    choice.heads, choice.qk, choice.vo
                )
                steps.append((more, kind, int(wider[0])))
        return steps

    @property
    def neuron_cost(self) -> float:
        """The cost of the first step of the feed-forward width."""
        return float(self._ffn_cost[1] - self._ffn_cost[0])

    def _attention_cost(self, heads: int, qk: int, vo: int) -> float:
        if not heads:
            return 0.0
        q, v = np.searchsorted(self.qk_widths, qk), np.searchsorted(self.vo_widths, vo)
        return float(self._head_cost_nqv[heads - 1, q, v])

    def _neurons_cost(self, neurons: int) -> float:
        return float(self._ffn_cost[int(np.searchsorted(self.ffn_widths, neurons))])

    def _head_values(self, kind: str, scores_hd: Scores, widths: Sizes) -> Scores:
        """Value of keeping the n best heads at each allowed width, shape (n, widths)."""
        best_first_hd = -np.sort(-np.maximum(scores_hd, 0.0)[self._head_order], axis=1)
        values: Scores = np.cumsum(np.cumsum(best_first_hd, axis=1), axis=0)[:, widths - 1]
        return np.where(widths[None, :] > self._most(kind)[:, None], -np.inf, values)

    def _most(self, kind: str) -> Sizes:
        """Possible widths of the n best heads, shape (n,): that of the narrowest of them."""
        scores_hd = self._qk_hd if kind == "qk" else self._vo_hd
        return np.minimum.accumulate((scores_hd >= 0).sum(1)[self._head_order])


def _of_heads(scores: Scores, group: UnitGroup) -> Scores:
    """Scores by head; units shared by all heads get their mean, closed for good if all are."""
    scores_hd = scores.reshape(group.heads, group.width)
    if not group.tied:
        return scores_hd
    shared_d = np.where((scores_hd < 0).all(0), scores_hd.max(0), np.maximum(scores_hd, 0.0).mean(0))
    return np.broadcast_to(shared_d, scores_hd.shape)


def _best_dims(scores_hd: Scores, kept_heads: Sizes, width: int) -> Mask:
    keep_hd = np.zeros(scores_hd.shape, bool)
    for head in kept_heads:
        keep_hd[head, np.argsort(-scores_hd[head], kind="stable")[:width]] = True
    return keep_hd.reshape(-1)
