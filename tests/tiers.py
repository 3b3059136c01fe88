"""Which tests run when: the three tiers of the suite, each of which holds the one before it.

| tier | command | leaves out |
|---|---|---|
| fast | `make test-fast` | tests marked `slow` or `exhaustive` |
| default | `make test` | tests marked `exhaustive` |
| all | `make test-all`, and `pytest` without `--tier` | nothing |

An unmarked test runs in all three. A test that exports or trains a whole model is `slow`; one of many of its kind is
`exhaustive`, as long as the kind keeps a member in the tier before. `tiered` marks the values of a parametrization so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest

LEFT_OUT: dict[str, frozenset[str]] = {
    "fast": frozenset({"slow", "exhaustive"}),
    "default": frozenset({"exhaustive"}),
    "all": frozenset(),
}
"""Markers whose tests a tier omits."""


def tiered(values: Iterable[Any], *, fast: int | Collection[Any] = 0, default: int | Collection[Any] = ()) -> list[Any]:
    """Values for `pytest.mark.parametrize`, each marked by the first tier that runs it.

    Args:
        values: all of them, as `make test-all` runs them; a tuple is one value for each of several arguments.
        fast: those that every tier runs; a number means the first so many.
        default: those that `make test` runs in addition to the fast ones; a number counts from the first value, so it
            includes the fast ones.

    Raises:
        ValueError: `fast` or `default` names or counts values that there are not.
    """
    known = list(values)
    in_fast, in_default = _chosen("fast", fast, known), _chosen("default", default, known)
    return [_marked(value, value in in_fast, value in in_default) for value in known]


def left_out(marks: Iterable[str], tier: str) -> bool:
    """Whether a tier omits a test with these markers."""
    return not LEFT_OUT[tier].isdisjoint(marks)


def _chosen(name: str, asked: int | Collection[Any], known: list[Any]) -> list[Any]:
    if isinstance(asked, int):
        if asked > len(known):
            raise ValueError(f"{name}: {asked} of {len(known)} values")
        return known[:asked]
    unknown = [value for value in asked if value not in known]
    if unknown:
        raise ValueError(f"{name}: {unknown} are none of the values")
    return list(asked)


def _marked(value: Any, in_fast: bool, in_default: bool) -> Any:
    if in_fast:
        return value
    several = value if isinstance(value, tuple) else (value,)
    return pytest.param(*several, marks=pytest.mark.slow if in_default else pytest.mark.exhaustive)
