"""The targets whose blocks are timed on the machine that exports or trains: those with a table of costs."""

from __future__ import annotations

from typing import Protocol

from finegates_export.costs.blocks import ort_cpu
from finegates_export.costs.blocks.block_shape import BlockShape


class MeasuredTarget(Protocol):
    """One file of this room beside a target's own."""

    NAME: str
    """The target's."""

    def block_graph(self, shape: BlockShape, seed: int = 0) -> bytes:
        """See `ort_cpu.block_graph`."""


_ALL: tuple[MeasuredTarget, ...] = (ort_cpu,)
MEASURED_TARGETS: dict[str, MeasuredTarget] = {target.NAME: target for target in _ALL}
"""By the name users give."""
