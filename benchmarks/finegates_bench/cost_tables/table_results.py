"""What a cost table found, as JSON types; every number of its files stands here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from finegates_bench.cost_tables.table_widths import Axis
from finegates_bench.measuring.results import Stamp

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class WidthCost:
    """What a half of a layer takes at one width, over and above its residual sum and its norm."""

    width: int
    ms: float
    """The median."""
    low: float
    """From here ..."""
    high: float
    """... to here lie 95 % of the medians that the bootstrap draws."""
    rounds: int
    packed: bool = False
    """Whether Q, K and V are one operator."""

    @property
    def ms_per_unit(self) -> float:
        """Milliseconds a neuron, a dim of every head, or a head."""
        return self.ms / self.width


@dataclass(frozen=True)
class CostLine:
    """A half of a layer by one of its widths."""

    axis: Axis
    fixed: str
    """What does not vary, in words; empty where there is nothing else."""
    points: tuple[WidthCost, ...]
    """By ascending width; the last is the whole half."""
    dense: tuple[int, int] | None
    """The first and the last of the widths that were measured one by one."""

    @property
    def whole(self) -> WidthCost:
        """The unpruned half."""
        return self.points[-1]

    def time_share(self, point: WidthCost) -> float | None:
        """Of the whole half's time; None where that is lost in the noise."""
        return point.ms / self.whole.ms if self.whole.ms > 0 else None

    def arithmetic_share(self, point: WidthCost) -> float:
        """Of the whole half's products: all of them have this width once, so it is the width's own share."""
        return point.width / self.whole.width


@dataclass(frozen=True)
class FormCosts:
    """The costs of layers that are alike."""

    layers: tuple[int, ...]
    hidden: int
    """Dims of the residual stream."""
    lines: tuple[CostLine, ...]


@dataclass(frozen=True)
class CostReport:
    """The measured cost table of a base's layers; `table_markdown.markdown` prints it."""

    stamp: Stamp
    base: str
    shape: str
    target: str
    measured: int
    """Blocks that were measured for this table; the others were kept from before."""
    kept: int
    forms: tuple[FormCosts, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything, with shares and costs a unit beside what they are made of."""
        forms = [
            {**asdict(form), "lines": [{**asdict(line), "points": _points(line)} for line in form.lines]}
            for form in self.forms
        ]
        return {"schema_version": SCHEMA_VERSION, **asdict(self), "forms": forms}


def _points(line: CostLine) -> list[dict[str, Any]]:
    return [
        {
            **asdict(point),
            "ms_per_unit": point.ms_per_unit,
            "time_share": line.time_share(point),
            "arithmetic_share": line.arithmetic_share(point),
        }
        for point in line.points
    ]
