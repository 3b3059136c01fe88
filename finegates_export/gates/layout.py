"""Which gates exist, on which linears they act, and which units they keep.

Two layouts and an empty one, the same for every family:

- **matrix** (the paper): a row gate and a column gate on every gated linear; a fused linear has one column gate and a
  row gate for each of its blocks;
- **coupled**: one gate per unit that two matrices share, so that a closed gate removes a row of one and a column of
  the other: feed-forward neurons, V/O dims, Q/K dims (or rotary pairs), whole heads, and optionally the residual width;
- **none**: no gates, for the unpruned model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from finegates_export.errors import UnsupportedError
from finegates_export.families.residual import ResidualMap
from finegates_export.families.structure import LinearSide, Structure, UnitGroup, UnitKind

LayoutName = Literal["matrix", "coupled", "none"]
LAYOUTS: tuple[LayoutName, ...] = ("matrix", "coupled", "none")
WIDTH_GATE = "width"

UnitKey = tuple[int, UnitKind]


@dataclass(frozen=True)
class GateSpec:
    """One gate vector."""

    name: str
    size: int


@dataclass(frozen=True)
class Factor:
    """A gate vector as a factor of a product."""

    gate: str
    repeat: int = 1
    """Repeats of each element: a head's gate for its dims."""
    run: int = 0
    """Gates per run: a head's dims (or rotary pairs), if the next two count runs."""
    joined: int = 1
    """Consecutive runs joined into one that is open while any of them is: a unit's rows as the unit."""
    times: int = 1
    """Consecutive repeats of each run: a unit's gate for each of its rows."""


@dataclass(frozen=True)
class GateLayout:
    """The gate vectors of a model and their effect."""

    name: LayoutName
    gates: tuple[GateSpec, ...]
    scales: dict[LinearSide, tuple[Factor, ...]]
    """Factors whose product multiplies each gated side of a linear."""
    units: dict[UnitKey, tuple[Factor, ...]]
    """Factors that must all be open for a unit to stay."""
    any_keeps: frozenset[UnitKey] = field(default_factory=frozenset)
    """Groups whose units stay while any of their factors is open."""
    norms: tuple[str, ...] = ()
    """Norms that the width gate acts on."""

    @property
    def size(self) -> int:
        """Total number of gates."""
        return sum(gate.size for gate in self.gates)

    @property
    def has_width(self) -> bool:
        """Whether the residual width is gated."""
        return bool(self.norms)


def build_layout(name: str, structure: Structure, residual: ResidualMap | None = None) -> GateLayout:
    """The gates of one layout for one model.

    Args:
        name: matrix, coupled or none.
        structure: the model's linears and units.
        residual: where the residual width is, to gate it too; only for the coupled layout.

    Raises:
        UnsupportedError: an unknown layout name, or a width gate in another layout than coupled.
    """
    if residual is not None and name != "coupled":
        raise UnsupportedError(f"the layout {name!r} has no width gate; use the layout 'coupled'")
    if name == "none":
        return GateLayout("none", (), {}, {})
    if name == "matrix":
        return _matrix(structure)
    if name == "coupled":
        return _coupled(structure, residual)
    raise UnsupportedError(f"layout {name!r} does not exist; choose one of {', '.join(LAYOUTS)}")


def _matrix(structure: Structure) -> GateLayout:
    gates: list[GateSpec] = []
    scales: dict[LinearSide, tuple[Factor, ...]] = {}
    units: dict[UnitKey, tuple[Factor, ...]] = {}
    any_keeps: set[UnitKey] = set()
    for group in structure.groups():
        for side in group.sides:
            for gated, size in ((side, group.rows(side)), (side.other, structure.hidden_size)):
                if gated not in scales:
                    gates.append(GateSpec(gated.name, size))
                    scales[gated] = (Factor(gated.name),)
        units[group.layer, group.kind] = tuple(_unit_of_rows(group, side) for side in group.sides)
        if group.needs_all:
            any_keeps.add((group.layer, group.kind))
    return GateLayout("matrix", tuple(gates), scales, units, frozenset(any_keeps))


def _coupled(structure: Structure, residual: ResidualMap | None) -> GateLayout:
    gates: list[GateSpec] = []
    scales: dict[LinearSide, tuple[Factor, ...]] = {}
    units: dict[UnitKey, tuple[Factor, ...]] = {}
    for layer in structure.layers:
        prefix = f"layers.{layer.index}"
        heads = GateSpec(f"{prefix}.heads", layer.attention.heads)
        gates.append(heads)
        for group in layer.groups():
            gate = GateSpec(f"{prefix}.{group.kind}", group.width if group.tied else group.size)
            gates.append(gate)
            own = _spread(gate.name, group, group.heads if group.tied else 1)
            for side in _acting_sides(group):
                acting = _spread(gate.name, group, side.copies * group.rows_per_unit * own.times)
                per_head = Factor(heads.name, repeat=group.width * side.copies)
                scales[side] = (acting, per_head) if group.kind == "vo" else (acting,)
            per_unit = Factor(heads.name, repeat=group.width)
            units[group.layer, group.kind] = (own,) if group.kind == "ffn" else (own, per_unit)
    if residual is not None:
        gates.append(GateSpec(WIDTH_GATE, structure.hidden_size))
        scales |= {LinearSide(path, "row"): (Factor(WIDTH_GATE),) for path in residual.writers}
    return GateLayout("coupled", tuple(gates), scales, units, norms=residual.norms if residual else ())


def _acting_sides(group: UnitGroup) -> tuple[LinearSide, ...]:
    """A coupled gate acts once: on Q's rows (K's if queries share a KV head), on O's columns, on down's columns.

    It acts on both Q's and K's rows if something reads both, such as a norm after Q and K: that undoes a gate on all
    dims of a head, but not on a single dim, and folding before it is exact.
    """
    if group.kind == "qk":
        return group.sides if group.needs_all else group.sides[-1:] if group.sides[0].copies > 1 else group.sides[:1]
    return group.sides[-1:]


def _unit_of_rows(group: UnitGroup, side: LinearSide) -> Factor:
    """A side's row gates as they keep units: a unit stays while any of its rows does."""
    joined = side.copies * group.rows_per_unit * (group.heads if group.tied else 1)
    if joined == 1:
        return Factor(side.name)
    return Factor(side.name, run=group.width, joined=joined, times=group.heads if group.tied else 1)


def _spread(gate: str, group: UnitGroup, times: int) -> Factor:
    """A coupled gate, with each head's run of units repeated."""
    return Factor(gate, run=group.width, times=times) if times > 1 else Factor(gate)


def residual_factors(layout: GateLayout, side: LinearSide) -> tuple[Factor, ...]:
    """The gates on the residual side of a unit's linear; empty if the layout does not gate that side."""
    return (Factor(WIDTH_GATE),) if layout.has_width else layout.scales.get(side.other, ())
