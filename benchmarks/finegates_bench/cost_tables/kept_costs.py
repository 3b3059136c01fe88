"""The contents of a machine's cost file, as measured: blocks and comparisons."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from finegates_export.costs.blocks.block_shape import BlockShape
from finegates_export.costs.blocks.block_shapes import shape_to_json
from finegates_export.costs.cost_table import Cost, CostTable, Way
from finegates_export.costs.timing.statistics import Interval

SCHEMA_VERSION = 1


@dataclass(frozen=True, eq=False)
class KeptCosts:
    """The contents of the file; `kept_tables.markdown` prints them."""

    stamp: dict[str, Any]
    """Identifies the machine and setup; see `cost_file.make_stamp`."""
    costs: dict[BlockShape, Cost]
    """Costs of one block; a half of a layer includes its residual sum and norm."""
    ratios: dict[tuple[Way, Way], Interval]
    """Time of the second way divided by that of the first."""

    @classmethod
    def of(cls, table: CostTable) -> KeptCosts:
        """The known costs, without measuring."""
        return cls(table.stamp, table.known(), table.known_ratios())

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON types."""
        return {
            "schema_version": SCHEMA_VERSION,
            "stamp": self.stamp,
            "costs": [{"shape": shape_to_json(shape), **asdict(cost)} for shape, cost in self.costs.items()],
            "ratios": [
                {"a": list(map(shape_to_json, a)), "b": list(map(shape_to_json, b)), **asdict(ratio)}
                for (a, b), ratio in self.ratios.items()
            ],
        }
