"""The options of `finegates-bench table`, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from finegates_export.common.options import Groups, Options, as_path, check
from finegates_export.common.shapes import Shape
from finegates_export.costs.blocks.measured_targets import MEASURED_TARGETS
from finegates_export.costs.timing.block_times import Precision


@dataclass(frozen=True, kw_only=True)
class TableOptions(Options):
    """Options of one cost table."""

    groups: ClassVar[Groups] = {
        "Everyday": (
            "base",
            "shape",
            "threads",
            "out",
            "overwrite",
        ),
        "Measurement": (
            "target",
            "dense",
            "around",
            "seconds",
            "file",
        ),
    }

    base: str | None = None
    """The base model whose layers are measured: a folder or a hub id. Without it, the stored table is printed and
    nothing is measured."""
    shape: str = "8x128"
    """Input shape, BATCHxSEQUENCE."""
    target: Literal["ort-cpu"] = "ort-cpu"
    """Whose graphs are measured."""
    threads: int = 2
    """CPU threads."""
    dense: int = 0
    """Also measure this many consecutive widths of each kind, to show the steps between the table's knots."""
    around: float = 0.5
    """Centre of those consecutive widths, as a share of the full width."""
    seconds: float = 30.0
    """Time limit in seconds; measuring stops earlier once intervals are narrow, but never before sixteen rounds."""
    file: Path | None = None
    """Cost table file; default: this machine's, in the user's cache folder. Another machine's file is refused."""
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
        check(measured, "target", f"{self.target!r} has no cost table; choose one of {', '.join(MEASURED_TARGETS)}")
        check(self.threads > 0, "threads", f"must be positive, got {self.threads}")
        check(self.dense >= 0, "dense", f"must not be negative, got {self.dense}")
        check(self.base is not None or not self.dense, "dense", "measures a base's layers; give --base too")
        check(0 <= self.around <= 1, "around", f"must lie in [0, 1], got {self.around}")
        check(self.seconds >= 0, "seconds", f"must not be negative, got {self.seconds}")

    def parsed_shape(self) -> Shape:
        """The input shape."""
        return Shape.parse(self.shape)

    def precision(self) -> Precision:
        """When the measurement may stop."""
        return Precision(seconds=self.seconds)
