"""Modules of a model by their paths, as what they are: torch knows only that something has a path."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from torch import nn


def linear_at(model: nn.Module, path: str) -> nn.Linear:
    """The linear at a path that a family or a layout names.

    Raises:
        AttributeError: nothing has that path.
    """
    return cast("nn.Linear", model.get_submodule(path))


def norm_at(model: nn.Module, path: str) -> nn.LayerNorm:
    """The LayerNorm at a path that a family or a layout names.

    Raises:
        AttributeError: nothing has that path.
    """
    return cast("nn.LayerNorm", model.get_submodule(path))
