"""Activations that transformers writes out in elementary operations, as the one operator that computes the same.

The exporter would trace `0.5 * x * (1 + tanh(...))` node by node, and nine kernels would pass over the widest tensor of
the layer where one does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

ERF = ("gelu_python",)
TANH = ("gelu_new", "gelu_fast", "gelu_accurate")
"""By transformers' names: GELU by the error function, and its approximation by tanh (Hendrycks and Gimpel, 2016)."""


@contextlib.contextmanager
def as_operators(model: nn.Module) -> Iterator[None]:
    """Stand-ins for the activations named above while a model is traced; the model is left as it was.

    Args:
        model: any transformers model; modules it shares keep being shared.
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
    """One class of transformers holds both the operator and the written-out formula."""
    written_out = getattr(module, "act", None) is not nn.functional.gelu
    return type(module), written_out
