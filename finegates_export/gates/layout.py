"""Which gates exist, on which linears they act, and which units they keep.

Two layouts and the empty one, for every family alike:

- **matrix** (the paper): a row gate and a column gate on every gated linear;
- **coupled**: one gate per unit that two matrices share, so that a closed gate removes a row of one and a column of
  the other: feed-forward neurons, V/O dims, Q/K dims, and whole heads;
- **none**: no gates, for the unpruned model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from finegates_export.errors import UnsupportedError
from finegates_export.families.structure import LinearSide, Structure, UnitGroup, UnitKind

LayoutName = Literal["matrix", "coupled", "none"]
LAYOUTS: tuple[LayoutName, ...] = ("matrix", "coupled", "none")

UnitKey = tuple[int, UnitKind]


@dataclass(frozen=True)
class GateSpec:
    """One gate vector."""

    name: str
    size: int


@dataclass(frozen=True)
class Factor:
    """A gate vector as it enters a product: each element repeated `repeat` times (a head's gate over its dims)."""

    gate: str
    repeat: int = 1


@dataclass(frozen=True)
class GateLayout:
    """The gate vectors of a model and what they do."""

    name: LayoutName
    gates: tuple[GateSpec, ...]
    scales: dict[LinearSide, tuple[Factor, ...]]
    """What each gated side of a linear is multiplied by: the product of these factors."""
    units: dict[UnitKey, tuple[Factor, ...]]
    """What must be open for a unit to stay: all of these factors."""

    @property
    def size(self) -> int:
        """Gate parameters in all."""
        return sum(gate.size for gate in self.gates)


def build_layout(name: str, structure: Structure) -> GateLayout:
    """The gates of one layout for one model.

    Raises:
        UnsupportedError: an unknown layout name.
    """
    if name == "none":
        return GateLayout("none", (), {}, {})
    if name == "matrix":
        return _matrix(structure)
    if name == "coupled":
        return _coupled(structure)
    raise UnsupportedError(f"layout {name!r} does not exist; choose one of {', '.join(LAYOUTS)}")


def _matrix(structure: Structure) -> GateLayout:
    gates: list[GateSpec] = []
    scales: dict[LinearSide, tuple[Factor, ...]] = {}
    units: dict[UnitKey, tuple[Factor, ...]] = {}
    for group in structure.groups():
        for side in group.sides:
            for gated, size in ((side, group.size), (side.other, structure.hidden_size)):
                gate = GateSpec(f"{gated.linear}.{gated.axis}", size)
                gates.append(gate)
                scales[gated] = (Factor(gate.name),)
        units[group.layer, group.kind] = tuple(scales[side][0] for side in group.sides)
    return GateLayout("matrix", tuple(gates), scales, units)


def _coupled(structure: Structure) -> GateLayout:
    gates: list[GateSpec] = []
    scales: dict[LinearSide, tuple[Factor, ...]] = {}
    units: dict[UnitKey, tuple[Factor, ...]] = {}
    for layer in structure.layers:
        prefix = f"layers.{layer.index}"
        heads = GateSpec(f"{prefix}.heads", layer.attention.heads)
        gates.append(heads)
        per_dim = Factor(heads.name, repeat=layer.attention.head_dim)
        for group in layer.groups():
            gate = GateSpec(f"{prefix}.{group.kind}", group.size)
            gates.append(gate)
            own = Factor(gate.name)
            scales[_acting_side(group)] = (own, per_dim) if group.kind == "vo" else (own,)
            units[group.layer, group.kind] = (own,) if group.kind == "ffn" else (own, per_dim)
    return GateLayout("coupled", tuple(gates), scales, units)


def _acting_side(group: UnitGroup) -> LinearSide:
    """A coupled gate acts once: on Q's rows, on O's columns, on down's columns."""
    return group.sides[0] if group.kind == "qk" else group.sides[1]


def residual_factors(layout: GateLayout, side: LinearSide) -> tuple[Factor, ...]:
    """The gates on the residual side of a unit's linear; empty where the layout leaves that side open."""
    return layout.scales.get(side.other, ())
