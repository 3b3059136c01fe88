"""Where a model keeps the width of its residual stream, outside the layers' gated linears.

Found in the model itself, not listed by families: a norm over the hidden size is a norm of the residual stream, an
embedding table of that width is read into it, and so on. The chain of checks would catch anything missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finegates_export.families.structure import Structure

if TYPE_CHECKING:
    from torch import nn

ANSWERS = ("classifier", "out_proj", "qa_outputs", "cls_classifier", "distillation_classifier")
"""Names of the linears whose outputs are logits: never the residual width, even if equal in size."""


@dataclass(frozen=True)
class ResidualMap:
    """The residual width outside the layers' linears, by module or parameter path."""

    norms: tuple[str, ...]
    """Norms over it, including the layers' own."""
    tables: tuple[str, ...]
    """Parameters with it as their last axis: embeddings, class tokens, positions."""
    readers: tuple[str, ...]
    """Linears that read it."""
    writers: tuple[str, ...]
    """Linears that write it: a width gate acts on their rows, since no norm need follow."""
    convolutions: tuple[str, ...]
    """Convolutions that write it as channels (image patches); a norm precedes every reader of theirs."""


def residual_map(model: nn.Module, structure: Structure) -> ResidualMap:
    """Walk a task model without an adapter."""
    from torch import nn

    width = structure.hidden_size
    norms, tables, readers, writers, convolutions = [], [], [], [], []
    for path, module in _outside(model, structure):
        if isinstance(module, nn.LayerNorm):
            norms += [path] if tuple(module.normalized_shape) == (width,) else []
        elif isinstance(module, nn.Embedding):
            tables += [f"{path}.weight"] if module.embedding_dim == width else []
        elif isinstance(module, nn.Linear):
            readers += [path] if module.in_features == width else []
            answers = path.rpartition(".")[2] in ANSWERS
            writers += [path] if module.out_features == width and not answers else []
        elif isinstance(module, nn.Conv2d):
            convolutions += [path] if module.out_channels == width else []
        else:
            own = module.named_parameters(recurse=False)
            tables += [f"{path}.{name}" for name, value in own if value.dim() and value.shape[-1] == width]
    return ResidualMap(tuple(norms), tuple(tables), tuple(readers), tuple(writers), tuple(convolutions))


def _outside(model: nn.Module, structure: Structure) -> Iterator[tuple[str, nn.Module]]:
    """Modules by path, without the layers' linears and peft's modules in and around them."""
    positions = (path for layer in structure.layers for path in layer.attention.position_linears)
    inside = (*structure.linears(), *positions)
    within = tuple(f"{path}." for path in inside)
    for path, module in model.named_modules():
        if path not in inside and not path.startswith(within):
            yield path, module
