"""Linears that int8 would slow down: found in the shrunk model, judged by measured cost.

Dynamic int8 quantizes a linear's input at run time. For a narrow matrix that takes longer than the product saves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finegates_export.families.modules import kept_linear
from finegates_export.families.structure import LayerMap, Structure
from finegates_export.pruning.plan import ResidualPlan, Side

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class FloatLinear:
    """A linear kept in float."""

    linear: str
    why: str


@dataclass(frozen=True)
class LinearSize:
    """The matrix of one linear, or of several that read one tensor, which is then quantized once for all."""

    inputs: int
    outputs: int
    read_from: int | None = None
    """A gather before it takes the inputs from this many dims."""
    write_to: int | None = None
    """A gather after it scatters the outputs over this many dims."""


Gathered = dict[tuple[str, Side], ResidualPlan]
"""Gathered sides, by their linear and side."""
Judge = Callable[[LinearSize], str | None]
"""Says why a linear stays in float; None if int8 is not slower."""


def slow_linears(
    model: nn.Module, structure: Structure, sides: Sequence[ResidualPlan], judge: Judge
) -> tuple[FloatLinear, ...]:
    """The linears that are faster in float, in the order of the layers.

    Args:
        model: the shrunk model.
        structure: where its linears are.
        sides: the plan's decisions on residual sides.
        judge: makes the decision.
    """
    gathered = {(side.linear, side.side): side for side in sides if side.gathered}
    found = []
    for layer in structure.layers:
        for paths, size in _sizes(model, layer, gathered):
            why = judge(size)
            if why is not None:
                found += [FloatLinear(path, why) for path in paths]
    return tuple(found)


def _sizes(model: nn.Module, layer: LayerMap, gathered: Gathered) -> Iterator[tuple[list[str], LinearSize]]:
    roles = layer.roles()
    factor = layer.feed_forward.factor
    readers = ([roles["query"], roles["key"], roles["value"]], [roles["up"], *([factor.linear] if factor else [])])
    for paths in readers:
        present = [path for path in dict.fromkeys(paths) if _shape(model, path)]
        apart = [path for path in present if (path, "reads") in gathered]
        together = [path for path in present if path not in apart]
        for path in apart:
            yield [path], _gathered_size(_shape(model, path), gathered, path)
        if together:
            shapes = [_shape(model, path) for path in together]
            yield together, LinearSize(shapes[0][1], sum(outputs for outputs, _ in shapes))
    for path in (roles["output"], roles["down"]):
        if _shape(model, path):
            yield [path], _gathered_size(_shape(model, path), gathered, path)


def _gathered_size(shape: tuple[int, ...], gathered: Gathered, path: str) -> LinearSize:
    outputs, inputs = shape
    reads, writes = gathered.get((path, "reads")), gathered.get((path, "writes"))
    return LinearSize(
        len(reads.dims) if reads else inputs,
        len(writes.dims) if writes else outputs,
        reads.width if reads else None,
        writes.width if writes else None,
    )


def _shape(model: nn.Module, path: str) -> tuple[int, ...]:
    """Outputs and inputs; empty if the linear was removed."""
    linear = kept_linear(model, path)
    return () if linear is None else tuple(linear.weight.shape)
