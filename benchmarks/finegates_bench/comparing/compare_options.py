"""The options of `finegates-bench compare`, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from finegates_export.common.options import Groups, Options, as_path, check
from finegates_export.common.shapes import Shape


@dataclass(frozen=True)
class CompareOptions(Options):
    """Options of one comparison."""

    groups: ClassVar[Groups] = {
        "Reports": (
            "before",
            "after",
            "shapes",
        ),
        "Verdict": (
            "fail_above",
            "absolute",
        ),
    }

    before: Path
    """The earlier report: its folder or its report.json."""
    after: Path
    """The report to compare with it."""
    shapes: tuple[str, ...] = field(default=(), kw_only=True)
    """Shapes to compare, BATCHxSEQUENCE; default: all that both reports have."""
    fail_above: float | None = field(default=None, kw_only=True)
    """Exit with status 1 if a model got slower by more than this factor: 1.05 allows 5 %. Compares ratios to the
    unpruned model, since the two reports' milliseconds were not measured in turns."""
    absolute: bool = field(default=False, kw_only=True)
    """Let --fail-above compare milliseconds instead; both reports must come from the same machine."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "before", as_path(self.before))
        object.__setattr__(self, "after", as_path(self.after))
        try:
            shapes = tuple(str(Shape.parse(shape)) for shape in self.shapes)
        except ValueError as error:
            raise ValueError(f"shapes: {error}") from error
        object.__setattr__(self, "shapes", shapes)
        check(len(set(shapes)) == len(shapes), "shapes", f"names a shape twice: {','.join(shapes)}")
        limit = self.fail_above
        check(limit is None or limit > 0, "fail-above", f"must be positive (1.05 allows 5 %), got {limit}")
        check(limit is not None or not self.absolute, "absolute", "needs --fail-above, which is not given")
