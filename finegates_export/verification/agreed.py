"""Counts where two forms of a model predict the same, above all where it matters, and what so few rows can tell.

A prediction is rare where either form says something other than the gated model's most frequent answer: 99 % agreement
is met by a form that always says the frequent label, but not agreement on rare predictions.

Shapes: N predictions, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finegates_export.common.tasks.arrays import Array
from finegates_export.common.tasks.names import NO_LABEL

CHANCE = 0.05
"""How often a form that is just good enough may be refused, because the rows happen to be hard for it."""
RARE_FACTOR = 5.0
"""How many times the share of all predictions may differ among the rare ones, which lie nearer to a decision's edge."""


@dataclass(frozen=True)
class Recall:
    """What became of one label."""

    label: str
    true: int
    """Rows (tokens) that have the label; 0 without labelled rows."""
    found_by_gated: int
    """How many of them the gated model finds."""
    found: int
    """How many of them the form finds."""
    said: int
    """How often the gated model says the label."""
    kept: int
    """How often the form says it there too."""


@dataclass(frozen=True)
class Agreed:
    """The predictions of two forms, counted."""

    compared: int
    equal: int
    rare: int = 0
    """Predictions where either form says something other than the gated model's most frequent answer."""
    rare_equal: int = 0
    one_answer: bool = False
    """Whether the form says only the most frequent answer, though the gated model says others too."""
    recalls: tuple[Recall, ...] = ()
    """One for every label that is true or said somewhere."""

    @property
    def at_least(self) -> float:
        """The share of equal predictions that so many rows can vouch for, at 95 % confidence (Clopper and Pearson)."""
        from scipy.stats import beta

        return float(beta.ppf(CHANCE, self.equal, self.compared - self.equal + 1)) if self.equal else 0.0


def most_by_chance(count: int, share: float, chance: float = CHANCE) -> int:
    """How many of some predictions differ at most, in all but `chance` of the samples, if `share` of all would.

    Args:
        count: the predictions at hand.
        share: of all predictions that differ, between 0 and 1.
        chance: how often more may differ.
    """
    from scipy.stats import binom

    return int(binom.ppf(1 - chance, count, share)) if count else 0


def count_equal(before: Array, after: Array) -> Agreed:
    """Rows of predictions, counted; a row with several values (an answer's two ends) is one prediction.

    Args:
        before: the gated model's, shape (N,) or (N, values).
        after: the form's.
    """
    one, other = (side.reshape(len(side), -1) for side in (before, after))
    rows, counts = np.unique(one, axis=0, return_counts=True)
    usual = rows[counts.argmax()]
    equal, unusual = (one == other).all(1), (one != usual).any(1)
    rare = unusual | (other != usual).any(1)
    lost = bool(unusual.any()) and bool((other == usual).all())
    return Agreed(len(one), int(equal.sum()), int(rare.sum()), int(equal[rare].sum()), lost)


def count_decisions(before_NC: Array, after_NC: Array) -> Agreed:
    """Decisions about several labels, counted one by one; each label has its own most frequent answer."""
    usual_C = before_NC.mean(0) > 0.5
    equal, unusual = before_NC == after_NC, before_NC != usual_C
    rare = unusual | (after_NC != usual_C)
    lost = bool(unusual.any()) and bool((after_NC == usual_C).all())
    return Agreed(equal.size, int(equal.sum()), int(rare.sum()), int(equal[rare].sum()), lost)


def recalls_of(before: Array, after: Array, truth: Array | None, labels: Sequence[str]) -> tuple[Recall, ...]:
    """What became of each label.

    Args:
        before: the gated model's predictions: a label's number each, shape (N,), or decisions, shape (N, C).
        after: the form's.
        truth: the true ones in the same shape; None if they are not known.
        labels: the labels' names, in order.
    """
    several = before.ndim == 2
    told = []
    for number, label in enumerate(labels):
        true, gated, form = (
            np.zeros(len(before), bool) if side is None else side[:, number] > 0 if several else side == number
            for side in (truth, before, after)
        )
        if true.any() or gated.any():
            counts = (true, true & gated, true & form, gated, gated & form)
            told.append(Recall(label, *(int(chosen.sum()) for chosen in counts)))
    return tuple(told)


def labelled_only(before: Array, after: Array, truth: Array | None) -> tuple[Array, Array, Array | None]:
    """The predictions with a label, of which tokens may have none; all of them if no label is known."""
    if truth is None or truth.ndim > 1 or not (truth != NO_LABEL).any():
        return before, after, None if truth is None or truth.ndim == 1 else truth
    known = truth != NO_LABEL
    return before[known], after[known], truth[known]
