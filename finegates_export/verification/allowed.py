"""Refuses links that differ by more than they may."""

from __future__ import annotations

import numpy as np

from finegates_export.errors import ChainError
from finegates_export.verification.agreed import CHANCE, RARE_FACTOR, Agreed, most_by_chance
from finegates_export.verification.judge import Judge
from finegates_export.verification.link import Link, Tolerances

NOTHING = "nothing was written"
LOOSEN = "Export without --quantize, or set --min-agreement"
MAGNIFIES = (
    "A model that was closed until its metric broke down magnifies rounding: train it again, and close less. Rarely, a "
    "random row does so: another --seed draws others. Anything else is our defect, please report it with the run"
)
ROUNDING_FACTOR = 4.0
"""How many times as far from float64 as the gated model's own float32 a float32 form may be."""
MOST_ROUNDING = 10.0
"""How many times its limit either side may be away from float64, whatever the other's rounding."""
SEVERAL = 2
"""A label that the gated model says so often may not be lost altogether."""


def check_link(link: Link, tolerances: Tolerances, judge: Judge) -> None:
    """Hold a link to its limits.

    Raises:
        ChainError: it differs by more; then nothing is exported.
    """
    worst = max(link.relative, link.hidden_relative or 0.0)
    if not np.isfinite([link.relative, link.hidden_relative or 0.0]).all():
        raise ChainError(f"{link.name} returns NaN or infinite values; {NOTHING}. Please report it with the run")
    if link.exact:
        _check_exact(link, worst, tolerances.float32)
        return
    _check_agreement(link, tolerances.agreement, judge)
    if link.agreed is not None and tolerances.agreement > 0:
        _check_rare(link.name, link.agreed, min(1.0, RARE_FACTOR * (1 - tolerances.agreement)))
    if link.metric_lost is not None and not link.metric_lost * 100 <= tolerances.metric_points:  # NaN too
        raise ChainError(
            f"{link.name} loses {link.metric_lost * 100:.2f} points of the metric {judge.metric_name}, more than "
            f"{tolerances.metric_points:.2f}; {NOTHING}. Export without --quantize, or set --max-metric-loss"
        )


def is_rounding(link: Link, tolerances: Tolerances) -> bool:
    """Whether a float32 link misses its limit by so little that rounding may be why."""
    worst = max(link.relative, link.hidden_relative or 0.0)
    return link.exact and tolerances.float32 < worst <= 2 * MOST_ROUNDING * tolerances.float32


def _check_exact(link: Link, worst: float, most: float) -> None:
    if link.gated_rounding is not None:
        _check_rounding(link, link.gated_rounding, worst, most)
    elif worst > most:
        raise ChainError(
            f"{link.name} differs from the gated model by {worst:.2e} of the scale, more than {most:.0e}; {NOTHING}. "
            f"{MAGNIFIES}"
        )
    if link.greedy is not None and link.greedy < 1:
        raise ChainError(
            f"{link.name} writes another text than the gated model: {link.greedy:.2%} of the tokens are the same; "
            f"{NOTHING}. This is a defect, please report it with the run"
        )


def _check_rounding(link: Link, gated: float, worst: float, most: float) -> None:
    """Hold both sides to the gated model in float64."""
    allowed = min(max(most, ROUNDING_FACTOR * gated), MOST_ROUNDING * most)
    if max(gated, worst) > allowed:
        raise ChainError(
            f"{link.name} differs from the gated model in float64 by {worst:.2e} of the scale, above {allowed:.1e}; "
            f"the gated model's own float32 differs by {gated:.2e}; {NOTHING}. {MAGNIFIES}"
        )


def _check_agreement(link: Link, least: float, judge: Judge) -> None:
    if link.agreement is None or link.agreement >= least:
        return
    told = f"{link.name} {judge.told(link.agreement)}, less than {least:.2%}"
    if link.agreed is None:
        raise ChainError(f"{told}; {NOTHING}. {LOOSEN}")
    compared = link.agreed.compared
    # So few that the share itself allows none of them to differ can say no more than what chance explains.
    most = most_by_chance(compared, 1 - least) if compared * (1 - least) < 1 else int(compared * (1 - least))
    differ = compared - link.agreed.equal
    if differ > most:
        raise ChainError(f"{told}: {differ} of {compared} differ, and {most} may; {NOTHING}. {LOOSEN}")


def _check_rare(name: str, agreed: Agreed, share: float) -> None:
    """Refuse a form that lost what is rarely said, which agreement on all predictions does not show."""
    if agreed.one_answer:
        raise ChainError(
            f"{name} always says the most frequent answer, and never what the gated model says {agreed.rare} times of "
            f"{agreed.compared}; {NOTHING}. {LOOSEN}"
        )
    differ, most = agreed.rare - agreed.rare_equal, most_by_chance(agreed.rare, share)
    if differ > most:
        raise ChainError(
            f"{name} differs in {differ} of the {agreed.rare} predictions other than the most frequent answer, more "
            f"than the {most} that chance explains; {NOTHING}. {LOOSEN}"
        )
    said = [one for one in agreed.recalls if one.said >= SEVERAL]
    for one in said if share < 1 else ():
        most = min(most_by_chance(one.said, share, CHANCE / len(said)), one.said - 1)
        if one.said - one.kept > most:
            raise ChainError(
                f"{name} says {one.label!r} on {one.kept} of the {one.said} predictions where the gated model does, "
                f"and chance explains {most} lost; {NOTHING}. {LOOSEN}"
            )
