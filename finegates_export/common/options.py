"""The base of all option classes: frozen dataclasses that convert to JSON and back.

A subclass checks its fields in `__post_init__` and raises `ValueError` whose message starts with the field's name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

from finegates_export.common.files import JsonObject

OptionsT = TypeVar("OptionsT", bound="Options")
Groups = Mapping[str, Sequence[str]]
"""Titles, and the fields under each."""


class Options:
    """Base of the frozen option dataclasses."""

    groups: ClassVar[Groups] = {}
    """How `--help` arranges the fields: each is in exactly one group, the everyday ones come first."""

    def to_json(self) -> JsonObject:
        """The fields as JSON types; tuples become lists, paths become strings."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}  # type: ignore[arg-type]  # every subclass is a dataclass

    @classmethod
    def from_json(cls: type[OptionsT], values: JsonObject) -> OptionsT:
        """Rebuild from `to_json`.

        Raises:
            ValueError: a field that this version does not know.
        """
        known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]  # as above
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"{unknown[0]}: not an option of {cls.__name__}; it has {sorted(known)}")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def as_path(value: str | Path) -> Path:
    """A path as a user writes it, with `~` expanded."""
    return Path(value).expanduser()


def check(condition: bool, field: str, message: str) -> None:
    """Raise `ValueError("field: message")` unless `condition` holds."""
    if not condition:
        raise ValueError(f"{field}: {message}")


def _plain(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return str(value)
