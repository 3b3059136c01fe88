"""Everything `finegates-bench compare` can be told, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from finegates_export.common.options import Options, as_path, check
from finegates_export.common.shapes import Shape


@dataclass(frozen=True)
class CompareOptions(Options):
    """Options of one comparison."""

    before: Path
    """A report: its folder or its report.json."""
    after: Path
    """The report to hold against it."""
    shapes: tuple[str, ...] = field(default=(), kw_only=True)
    """Shapes to compare, BATCHxSEQUENCE; default: all that both reports have."""
    fail_above: float | None = field(default=None, kw_only=True)
    """Exit status 1 where a model got slower by more than this: 1.05 allows 5 %. Judged on the ratio to the unpruned
    model, after over before, for milliseconds of two runs were not measured in turns."""
    absolute: bool = field(default=False, kw_only=True)
    """Judge --fail-above on milliseconds instead; the same machine must have made both reports."""

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
        check(limit is not None or not self.absolute, "absolute", "says how --fail-above judges, and that is not given")
