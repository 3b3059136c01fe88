"""Which gates exist, on which linears they act, and which units they keep.

Two layouts and the empty one, for every family alike:

- **matrix** (the paper): a row gate and a column gate on every gated linear; a linear stored fused has one column gate
  and a row gate for each of its blocks;
- **coupled**: one gate per unit that two matrices share, so that a closed gate removes a row of one and a column of
  the other: feed-forward neurons, V/O dims, Q/K dims (or rotary pairs), whole heads, and by option the residual width;
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
    """A gate vector as it enters a product."""

    gate: str
    repeat: int = 1
    """Each element stands for so many in a row: a head's gate for its dims."""
    pairs: int = 0
    """Where set, the vector holds one gate per rotary pair, so many a head, and enters as one per row."""
    halves: int = 0
    """Where set, the vector holds one gate per row and enters as one per rotary pair, open while either row is."""


@dataclass(frozen=True)
class GateLayout:
    """The gate vectors of a model and what they do."""

    name: LayoutName
    gates: tuple[GateSpec, ...]
    scales: dict[LinearSide, tuple[Factor, ...]]
    """What each gated side of a linear is multiplied by: the product of these factors."""
    units: dict[UnitKey, tuple[Factor, ...]]
    """What must be open for a unit to stay: all of these factors."""
    any_keeps: frozenset[UnitKey] = field(default_factory=frozenset)
    """Units that stay while any of their factors is open."""
    norms: tuple[str, ...] = ()
    """Norms that the width gate acts on."""

    @property
    def size(self) -> int:
        """Gate parameters in all."""
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
        residual: where the residual width is, to gate it too; coupled layout alone.

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
            for gated, size in ((side, group.rows), (side.other, structure.hidden_size)):
                if gated not in scales:
                    gates.append(GateSpec(gated.name, size))
                    scales[gated] = (Factor(gated.name),)
        halves = group.width if group.rows_per_unit > 1 else 0
        units[group.layer, group.kind] = tuple(Factor(side.name, halves=halves) for side in group.sides)
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
            gate = GateSpec(f"{prefix}.{group.kind}", group.size)
            gates.append(gate)
            own, per_head = Factor(gate.name), Factor(heads.name, repeat=group.width)
            acting = Factor(gate.name, pairs=group.width) if group.rows_per_unit > 1 else own
            for side in _acting_sides(group):
                scales[side] = (acting, per_head) if group.kind == "vo" else (acting,)
            units[group.layer, group.kind] = (own,) if group.kind == "ffn" else (own, per_head)
    if residual is not None:
        gates.append(GateSpec(WIDTH_GATE, structure.hidden_size))
        scales |= {LinearSide(path, "row"): (Factor(WIDTH_GATE),) for path in residual.writers}
    return GateLayout("coupled", tuple(gates), scales, units, norms=residual.norms if residual else ())


def _acting_sides(group: UnitGroup) -> tuple[LinearSide, ...]:
    """A coupled gate acts once: on Q's rows, on O's columns, on down's columns; on Q and K where terms read both."""
    if group.kind == "qk":
        return group.sides if group.needs_all else group.sides[:1]
    return group.sides[-1:]


def residual_factors(layout: GateLayout, side: LinearSide) -> tuple[Factor, ...]:
    """The gates on the residual side of a unit's linear; empty where the layout leaves that side open."""
    return (Factor(WIDTH_GATE),) if layout.has_width else layout.scales.get(side.other, ())
