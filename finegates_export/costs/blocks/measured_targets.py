"""The targets whose blocks are timed on the machine that exports or trains: those with a cost table."""

from __future__ import annotations

from typing import Protocol

from finegates_export.costs.blocks import ort_cpu
from finegates_export.costs.blocks.block_shape import BlockShape


class MeasuredTarget(Protocol):
    """A target's file in this package."""

    NAME: str
    """The target's name."""

    def block_graph(self, shape: BlockShape, seed: int = 0) -> bytes:
        """See `ort_cpu.block_graph`."""


_ALL: tuple[MeasuredTarget, ...] = (ort_cpu,)
MEASURED_TARGETS: dict[str, MeasuredTarget] = {target.NAME: target for target in _ALL}
"""The measured targets, by name."""
