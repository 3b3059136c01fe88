"""Everything `finegates-bench table` can be told, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finegates_export.common.options import Options, as_path, check
from finegates_export.common.shapes import Shape
from finegates_export.costs.blocks.measured_targets import MEASURED_TARGETS
from finegates_export.costs.timing.block_times import Precision


@dataclass(frozen=True, kw_only=True)
class TableOptions(Options):
    """Options of one cost table."""

    base: str | None = None
    """The base model whose layers are measured: a folder or an id on the hub. Without it, what the file of costs holds
    is printed, and nothing is measured."""
    shape: str = "8x128"
    """The input, BATCHxSEQUENCE."""
    target: Literal["ort-cpu"] = "ort-cpu"
    """Whose graphs are measured."""
    threads: int = 2
    """Processor threads."""
    dense: int = 0
    """Measure so many consecutive widths of every kind as well, one apart: the stairs between the table's knots."""
    around: float = 0.5
    """Where those lie: their middle, as a share of the whole width."""
    seconds: float = 30.0
    """Seconds to measure for, unless the intervals are narrow before; the first sixteen rounds are always finished."""
    file: Path | None = None
    """The file of costs, if not that of this machine in the user's cache folder; another machine's is refused."""
    out: Path | None = None
    """A folder for table.json, table.md and, with --base, the plots."""
    overwrite: bool = False
    """Replace what is at --out."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "file", as_path(self.file) if self.file else None)
        object.__setattr__(self, "out", as_path(self.out) if self.out else None)
        try:
            self.parsed_shape()
        except ValueError as error:
            raise ValueError(f"shape: {error}") from error
        measured = self.target in MEASURED_TARGETS
        check(measured, "target", f"{self.target!r} is none of {', '.join(MEASURED_TARGETS)}, which have such a table")
        check(self.threads > 0, "threads", f"must be positive, got {self.threads}")
        check(self.dense >= 0, "dense", f"must not be negative, got {self.dense}")
        check(self.base is not None or not self.dense, "dense", "measures widths of a base's layers; give --base too")
        check(0 <= self.around <= 1, "around", f"must lie in [0, 1], got {self.around}")
        check(self.seconds >= 0, "seconds", f"must not be negative, got {self.seconds}")

    def parsed_shape(self) -> Shape:
        """The input."""
        return Shape.parse(self.shape)

    def precision(self) -> Precision:
        """When the measurement may stop."""
        return Precision(seconds=self.seconds)
