"""From how open each unit is to which units stay: widths a layer can really have, at an exact removed share.

Heads of one layer must end with equal Q/K widths and equal V widths, or each is padded to the widest. So units are not
cut by a threshold: per layer every (heads, Q/K width, V width) and every feed-forward width is an option with a value
(the summed scores of what it keeps) and a cost (the weights it keeps), and a Lagrange multiplier picks the options of
greatest value within the budget.

Shapes: h heads, d units per head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from finegates_export.errors import InputError
from finegates_export.families.structure import Structure, UnitGroup
from finegates_export.gates.layout import UnitKey

Scores = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

BISECTIONS = 100
ROUNDING = 1e-6
"""Weights that a budget may be off by because shares are floating-point numbers."""
LEAST_WORTH = 1e-6
"""Of the highest score; the score of a unit that has none."""


@dataclass(frozen=True)
class Widths:
    """Which widths the target likes: heads' Q/K and V widths, and feed-forward widths, in multiples."""

    head_multiple: int = 1
    ffn_multiple: int = 1

    def head_options(self, head_dim: int, rows_per_unit: int = 1) -> npt.NDArray[np.int64]:
        """Allowed widths of a head that stays, in units, ascending; always at least the original one."""
        return _multiples(head_dim // rows_per_unit, -(-self.head_multiple // rows_per_unit))

    def ffn_options(self, intermediate_size: int) -> npt.NDArray[np.int64]:
        """Allowed feed-forward widths, ascending, 0 among them."""
        return np.concatenate([np.zeros(1, np.int64), _multiples(intermediate_size, self.ffn_multiple)])


def settle(
    scores: Mapping[UnitKey, Scores],
    structure: Structure,
    removed: float,
    widths: Widths,
    *,
    residual_width: int | None = None,
) -> dict[UnitKey, Mask]:
    """Decide which units stay so that `removed` of the layers' linear weights goes.

    Args:
        scores: per unit group how much each unit is worth, shape (units,), not negative.
        structure: the model's units.
        removed: share of the layers' linear weights that must go, 0 to 1.
        widths: the widths to choose among.
        residual_width: dims of the residual stream that stay, where a width gate closed some.

    Returns:
        Per unit group a mask of shape (units,): True stays.

    Raises:
        InputError: `removed` lies outside 0..1 or a score is not finite.
    """
    if not 0.0 <= removed < 1.0:
        raise InputError(f"a removed share of {removed} cannot be settled; it must lie in [0, 1)")
    for key, values in scores.items():
        if not np.isfinite(values).all():
            raise InputError(f"scores of layer {key[0]} ({key[1]}) are not finite; the gates cannot be ranked")
    # Units of no worth at all must still be worth more than nothing, or a small share could not be met.
    floor = LEAST_WORTH * max((float(values.max(initial=0.0)) for values in scores.values()), default=0.0)
    scores = {key: np.maximum(values, floor) for key, values in scores.items()}
    width = structure.hidden_size if residual_width is None else residual_width
    layers = [_Layer(structure, index, width, scores, widths) for index in range(len(structure.layers))]
    budget = (1.0 - removed) * structure.linear_weights + ROUNDING
    # No unit is worth more than the highest score, and each costs at least two weights per dim.
    low, high = 0.0, max(float(values.max(initial=0.0)) for values in scores.values()) + 1.0
    for _ in range(BISECTIONS):
        price = (low + high) / 2
        if sum(layer.cost(layer.choose(price)) for layer in layers) > budget:
            low = price
        else:
            high = price
    choices = [layer.choose(high) for layer in layers]
    _spend_rest(layers, choices, budget)
    _trade_neurons_for_a_dim(layers, choices, budget)
    keep: dict[UnitKey, Mask] = {}
    for layer, choice in zip(layers, choices, strict=True):
        keep.update(layer.masks(choice))
    return keep


def settle_width(scores: Scores, removed: float) -> Mask:
    """Decide which dims of a gated residual width stay: those that are open, and no fewer than the budget needs.

    A dim of the width takes weights from every linear, so the width alone must not remove more than is asked.

    Args:
        scores: how open each dim is, shape (residual width,); closed at 0 and below.
        removed: share of the layers' linear weights that must go.
    """
    least = max(1, math.ceil((1.0 - removed) * len(scores)))
    stays = scores > 0
    if stays.sum() < least:
        stays[np.argsort(-scores, kind="stable")[:least]] = True
    return np.asarray(stays, bool)


@dataclass
class _Choice:
    heads: int
    qk: int
    vo: int
    ffn: int


class _Layer:
    """The options of one layer, with value tables that make choosing at a price a few array operations."""

    def __init__(
        self, structure: Structure, index: int, width: int, scores: Mapping[UnitKey, Scores], widths: Widths
    ) -> None:
        self.index = index
        qk, vo, ffn = structure.layers[index].groups()
        self.groups: tuple[UnitGroup, UnitGroup, UnitGroup] = (qk, vo, ffn)
        self.qk_cost, self.vo_cost, self.ffn_cost = (width * group.unit_weights for group in self.groups)
        self.qk_widths = widths.head_options(qk.width * qk.rows_per_unit, qk.rows_per_unit)
        self.vo_widths = widths.head_options(vo.width)
        self.ffn_widths = widths.ffn_options(ffn.width)
        self.qk_hd = scores[index, "qk"].reshape(qk.heads, qk.width)
        self.vo_hd = scores[index, "vo"].reshape(vo.heads, vo.width)
        self.ffn_scores = scores[index, "ffn"]
        self.head_order = np.argsort(-(self.qk_hd.sum(1) + self.vo_hd.sum(1)), kind="stable")
        self.qk_value = self._head_values(self.qk_hd, self.qk_widths)
        self.vo_value = self._head_values(self.vo_hd, self.vo_widths)
        self.ffn_order = np.argsort(-self.ffn_scores, kind="stable")
        self.ffn_value = np.concatenate([np.zeros(1), np.cumsum(self.ffn_scores[self.ffn_order])])[self.ffn_widths]

    def _head_values(self, scores_hd: Scores, widths: npt.NDArray[np.int64]) -> Scores:
        """Value of keeping the n best heads at each allowed width, shape (n, widths)."""
        best_first_hd = -np.sort(-scores_hd[self.head_order], axis=1)
        return np.cumsum(np.cumsum(best_first_hd, axis=1), axis=0)[:, widths - 1]

    def choose(self, price: float) -> _Choice:
        """The option of greatest value minus `price` per weight kept."""
        heads = np.arange(1, len(self.head_order) + 1)[:, None]
        qk_gain = self.qk_value - price * self.qk_cost * heads * self.qk_widths[None, :]
        vo_gain = self.vo_value - price * self.vo_cost * heads * self.vo_widths[None, :]
        gain_n = qk_gain.max(1) + vo_gain.max(1)
        best = int(gain_n.argmax())
        ffn = int(self.ffn_widths[int((self.ffn_value - price * self.ffn_cost * self.ffn_widths).argmax())])
        if gain_n[best] <= 0:
            return _Choice(0, 0, 0, ffn)
        qk = int(self.qk_widths[int(qk_gain[best].argmax())])
        vo = int(self.vo_widths[int(vo_gain[best].argmax())])
        return _Choice(best + 1, qk, vo, ffn)

    def cost(self, choice: _Choice) -> float:
        """Weights that the option keeps."""
        heads = choice.heads * (choice.qk * self.qk_cost + choice.vo * self.vo_cost)
        return float(heads + choice.ffn * self.ffn_cost)

    def masks(self, choice: _Choice) -> dict[UnitKey, Mask]:
        """The option as masks over the layer's units."""
        kept_heads = self.head_order[: choice.heads]
        ffn = np.zeros(len(self.ffn_scores), bool)
        ffn[self.ffn_order[: choice.ffn]] = True
        return {
            (self.index, "qk"): _best_dims(self.qk_hd, kept_heads, choice.qk),
            (self.index, "vo"): _best_dims(self.vo_hd, kept_heads, choice.vo),
            (self.index, "ffn"): ffn,
        }


def _spend_rest(layers: list[_Layer], choices: list[_Choice], budget: float) -> None:
    """Reopen the best closed neurons with what the chosen options left of the budget."""
    rest = budget - sum(layer.cost(choice) for layer, choice in zip(layers, choices, strict=True))
    while True:
        best: tuple[float, int, int] | None = None
        for number, (layer, choice) in enumerate(zip(layers, choices, strict=True)):
            wider = layer.ffn_widths[layer.ffn_widths > choice.ffn]
            if not wider.size:
                continue
            step = int(wider[0]) - choice.ffn
            if layer.ffn_cost * step > rest:
                continue
            value = float(layer.ffn_scores[layer.ffn_order[choice.ffn : choice.ffn + step]].mean())
            if best is None or value > best[0]:
                best = (value, number, step)
        if best is None:
            return
        choices[best[1]].ffn += best[2]
        rest -= layers[best[1]].ffn_cost * best[2]


def _trade_neurons_for_a_dim(layers: list[_Layer], choices: list[_Choice], budget: float) -> None:
    """Where every neuron is open and some budget is left: widen the heads of a layer, and pay the rest with neurons.

    A dim more in all heads of a layer costs more than a neuron; in a small model that is a visible share.
    """
    rest = budget - sum(layer.cost(choice) for layer, choice in zip(layers, choices, strict=True))
    steps = [step for pair in zip(layers, choices, strict=True) for step in _head_steps(*pair)]
    saturated = all(choice.ffn == layer.ffn_widths[-1] for layer, choice in zip(layers, choices, strict=True))
    if not steps or not saturated or rest < min(layer.ffn_cost for layer in layers):
        return
    cost, layer, choice, kind, width = min(steps, key=lambda step: step[0])
    narrower = layer.ffn_widths[layer.ffn_widths <= choice.ffn - (cost - rest) / layer.ffn_cost]
    if narrower.size:
        setattr(choice, kind, width)
        choice.ffn = int(narrower[-1])


def _head_steps(layer: _Layer, choice: _Choice) -> list[tuple[float, _Layer, _Choice, str, int]]:
    """What the next wider Q/K or V/O width of a layer's heads would cost."""
    steps = []
    for kind, widths, cost in (("qk", layer.qk_widths, layer.qk_cost), ("vo", layer.vo_widths, layer.vo_cost)):
        wider = widths[widths > getattr(choice, kind)]
        if choice.heads and wider.size:
            more = choice.heads * cost * int(wider[0] - getattr(choice, kind))
            steps.append((float(more), layer, choice, kind, int(wider[0])))
    return steps


def _best_dims(scores_hd: Scores, kept_heads: npt.NDArray[np.int64], width: int) -> Mask:
    keep_hd = np.zeros(scores_hd.shape, bool)
    for head in kept_heads:
        keep_hd[head, np.argsort(-scores_hd[head], kind="stable")[:width]] = True
    return keep_hd.reshape(-1)


def _multiples(size: int, multiple: int) -> npt.NDArray[np.int64]:
    widths = np.arange(multiple, size + 1, multiple)
    return widths if widths.size and widths[-1] == size else np.append(widths, size)
