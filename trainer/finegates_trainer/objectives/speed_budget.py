"""A speed to reach: which units fit the milliseconds, and what the whole model then measures.

What widths cost comes from a table measured on this machine; of decoders it is counted (see `counted_costs`).

The aim is the share of the unpruned model's time to save: 1 - 1 / speed-up. When the structure is settled the whole
ONNX model is written and timed against the unpruned one, and the budget is corrected until the measured speed-up is
the one that was asked for: the table says where a millisecond is cheapest, the model itself says when it is enough.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import TYPE_CHECKING

from finegates_export.costs.counted_costs import SublayerCosts
from finegates_export.costs.timing.statistics import Interval
from finegates_export.errors import InputError
from finegates_export.families.structure import Structure
from finegates_export.gates.layout import UnitKey
from finegates_export.pruning.layer_options import Mask, Scores
from finegates_export.pruning.settle import settle_within
from finegates_export.pruning.widths import Sizes, Widths
from finegates_trainer.objectives.objective import Settlement, State

if TYPE_CHECKING:
    from finegates_export.costs.speed_probe import Anchor, SpeedProbe

MOST_TIMINGS = 8
"""Structures that are written and timed at most when one level is settled."""
FEWEST_NEARBY = 3
"""Timings that have to agree: one may be of a minute in which the machine was slow, or fast, and the next one too."""
CLOSE_ENOUGH = 0.01
"""Of the speed-up that was asked for; the next structure would not be told apart from this one."""
NEARBY = 0.15
"""Timings this close to the speed-up that was asked for tell the same thing but for chance: their mean is used ..."""
SURE = 0.015
"""... and their number grows until the half width of its 95 % interval is under this share."""


@dataclass(frozen=True)
class TimeCosts:
    """Milliseconds of sublayers, as settling asks for them."""

    layers: Sequence[SublayerCosts]

    def attention(self, layer: int, heads: Sizes, qk: Sizes, vo: Sizes) -> Scores:
        """See `pruning.layer_options.Costs`."""
        return self.layers[layer].attention_ms(heads, qk, vo)

    def feed_forward(self, layer: int, neurons: Sizes) -> Scores:
        """See `pruning.layer_options.Costs`."""
        return self.layers[layer].feed_forward_ms(neurons)


@dataclass(frozen=True)
class _Attempt:
    """A structure that was timed."""

    budget: float
    """Milliseconds of layers, by the table, that it was to fit."""
    keep: dict[UnitKey, Mask]
    measured: Interval


def _corrected(anchor: Anchor, timed: Sequence[_Attempt]) -> Anchor:
    """The anchor with another rest: what timings say, in the mean, that a model takes beside the table's milliseconds.

    Timings scatter by as much as a step is worth. To follow the latest alone would be to walk at random around the
    speed-up that was asked for, and to keep the one that came nearest would be to keep an accident.
    """
    rests = [anchor.unpruned / one.measured.median - anchor.factor * one.budget for one in timed]
    return replace(anchor, rest=sum(rests) / len(rests))


def _half_width(anchor: Anchor, timed: Sequence[_Attempt]) -> float:
    """Of the mean's 95 % interval, as a share: what each timing says of itself, or how they scatter if that is more.

    A timing lasts a minute or two and does not know of the minutes before it, in which the machine may have been in
    another state. What timings of different structures say is compared at one of them.
    """
    count = len(timed)
    own = math.hypot(*(one.measured.relative_half_width for one in timed)) / count
    if count == 1:
        return own
    told = [_corrected(anchor, [one]).speedup(timed[-1].budget) for one in timed]
    return max(own, 2.0 * stdev(told) / math.sqrt(count) / mean(told))


@dataclass
class SpeedBudget:
    """An aim is a share of the time.

    Args:
        structure: the model's units.
        widths: the widths to choose among.
        costs: milliseconds by widths, one a layer.
        anchor: what the whole unpruned model takes, and what it takes beside its layers.
        probe: writes and times a whole model.
    """

    structure: Structure
    widths: Widths
    costs: Sequence[SublayerCosts]
    anchor: Anchor
    probe: SpeedProbe

    def keep(self, scores: Mapping[UnitKey, Scores], aim: float) -> dict[UnitKey, Mask]:
        """See `Budget`; by the table of costs."""
        return self._within(scores, self.anchor.layers_ms_for(1.0 / (1.0 - aim)))

    def settle(self, scores: Mapping[UnitKey, Scores], aim: float) -> Settlement:
        """The structure that, by the mean of the timings, comes nearest to the speed-up asked for; see the module."""
        asked = 1.0 / (1.0 - aim)
        anchor, tried = self.anchor, list[_Attempt]()
        while len(tried) < MOST_TIMINGS:
            budget = anchor.layers_ms_for(asked)
            keep = self._within(scores, budget)
            tried.append(_Attempt(budget, keep, self.probe.speedup(keep, anew=True)))
            near = [one for one in tried if abs(one.measured.median / asked - 1.0) <= NEARBY] or tried[-1:]
            anchor = _corrected(anchor, near)
            close = abs(anchor.speedup(budget) / asked - 1.0) <= CLOSE_ENOUGH
            if close and len(near) >= FEWEST_NEARBY and _half_width(anchor, near) <= SURE:
                break
        best = min(tried, key=lambda attempt: abs(anchor.speedup(attempt.budget) / asked - 1.0))
        keep, measured = best.keep, best.measured
        expected = anchor.speedup(best.budget)
        facts = {
            "asked": asked,
            "expected": expected,
            "measured": measured.median,
            "low": measured.low,
            "high": measured.high,
            "rounds": measured.rounds,
            "expected_within": _half_width(anchor, near) * expected,
            "timings": len(tried),
        }
        own = f"{measured.median:.2f}x ({measured.low:.2f} to {measured.high:.2f}) measured"
        words = f"{own}, {expected:.2f}x by {len(near)} timings near it, {asked:.2f}x asked"
        return Settlement(keep, words=words, facts={"speedup": facts})

    def state(self) -> State:
        """The anchor, or a resumed run would press towards another time."""
        return {"unpruned": self.anchor.unpruned, "rest": self.anchor.rest, "factor": self.anchor.factor}

    def restore(self, state: State) -> None:
        """See `Budget`."""
        self.anchor = type(self.anchor)(float(state["unpruned"]), float(state["rest"]), float(state["factor"]))

    def _within(self, scores: Mapping[UnitKey, Scores], milliseconds: float) -> dict[UnitKey, Mask]:
        return settle_within(scores, self.structure, self.widths, TimeCosts(self.costs), max(0.0, milliseconds))


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
