"""Replaces activations that transformers spells out in elementary operations with one equivalent operator.

The exporter would trace `0.5 * x * (1 + tanh(...))` node by node, and nine kernels instead of one would pass over the
layer's widest tensor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

ERF = ("gelu_python",)
TANH = ("gelu_new", "gelu_fast", "gelu_accurate")
"""transformers' names for GELU by the error function, and for its tanh approximation (Hendrycks and Gimpel, 2016)."""


@contextlib.contextmanager
def as_operators(model: nn.Module) -> Iterator[None]:
    """Replace the activations named above while a model is traced, and restore them afterwards.

    Args:
        model: any transformers model; shared modules stay shared.
    """
    from transformers.activations import ACT2FN

    stand_ins = {
        _form(ACT2FN[name]): nn.GELU(approximate=approximate)
        for names, approximate in ((ERF, "none"), (TANH, "tanh"))
        for name in names
    }
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if _form(child) in stand_ins
    ]
    for parent, name, child in places:
        setattr(parent, name, stand_ins[_form(child)])
    try:
        yield
    finally:
        for parent, name, child in places:
            setattr(parent, name, child)


def _form(module: nn.Module) -> tuple[type[nn.Module], bool]:
    """A module's class, and whether it spells its formula out: one class of transformers does either."""
    written_out = getattr(module, "act", None) is not nn.functional.gelu
    return type(module), written_out
