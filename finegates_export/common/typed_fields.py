"""The fields of a dataclass from a stranger's JSON have the types that the class says, before anything uses them."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

PLAIN: dict[type, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def check_fields(cls: type, values: Mapping[str, Any]) -> None:
    """Refuse values of other types than a dataclass gives its fields; a class of its own is left to whoever makes it.

    Args:
        cls: the dataclass.
        values: some of its fields, as JSON types.

    Raises:
        ValueError: one is of another type; the message starts with the field's name.
    """
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if field.name in values:
            wanted = _wanted(hints[field.name], values[field.name])
            if wanted:
                raise ValueError(f"{field.name}: must be {wanted}, got {values[field.name]!r:.80}")


def _wanted(hint: Any, value: Any) -> str | None:
    """What a value should be and is not; None if it fits."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        wanted = [_wanted(part, value) for part in parts]
        return None if None in wanted else " or ".join(one for one in wanted if one)
    if hint is type(None):
        return None if value is None else "null"
    if hint in PLAIN:
        fits = type(value) is hint or (hint is float and type(value) is int)
        return None if fits and not _has_halves(value) else PLAIN[hint]
    if origin is dict:
        return _of_all("an object", isinstance(value, dict), parts[1], value)
    if origin is tuple:
        return _of_all("a list", isinstance(value, list | tuple), parts[0], value)
    return None


def _has_halves(value: Any) -> bool:
    """Whether a text holds half of a character, which JSON can write and no file can."""
    return isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value)


def _of_all(kind: str, fits: bool, hint: Any, value: Any) -> str | None:
    if not fits:
        return kind
    inside = value.values() if isinstance(value, dict) else value
    wanted = next((one for one in (_wanted(hint, item) for item in inside) if one), None)
    return f"{kind} of which each is {wanted}" if wanted else None
