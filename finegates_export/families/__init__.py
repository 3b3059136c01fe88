"""One file per architecture family, and the look-up by `model_type`."""

from __future__ import annotations

from finegates_export.errors import UnsupportedError
from finegates_export.families.bert import Bert
from finegates_export.families.family import Family

FAMILIES: tuple[Family, ...] = (Bert(),)


def family_of(model_type: str) -> Family:
    """The family that serves a config's `model_type`.

    Raises:
        UnsupportedError: no family does; the message lists those that exist.
    """
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    supported = sorted(name for family in FAMILIES for name in family.model_types)
    raise UnsupportedError(f"model type {model_type!r} is not supported; supported are: {', '.join(supported)}")
