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


def kept_linear(model: nn.Module, path: str) -> nn.Linear | None:
    """The linear at a path; None if it was removed from the model, alone or with its parent."""
    from torch import nn

    try:
        module = model.get_submodule(path)
    except AttributeError:
        return None
    return module if isinstance(module, nn.Linear) else None


def norm_at(model: nn.Module, path: str) -> nn.LayerNorm:
    """The LayerNorm at a path that a family or a layout names.

    Raises:
        AttributeError: nothing has that path.
    """
    return cast("nn.LayerNorm", model.get_submodule(path))
