"""Metric against latency, a panel per input shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from finegates_bench.measuring.results import BenchReport
from finegates_bench.reports.plot_points import add_point, point_keys
from finegates_bench.reports.plot_style import PALETTE, Key
from finegates_export.common.words import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE = 0.065
"""Height of a label relative to the panel."""
CHARACTER = 0.026
"""Width of a label's character relative to the panel."""
MARK = 0.03
"""Width of a point relative to the panel."""
OFFSET_POINTS = 7


@dataclass(frozen=True)
class Box:
    """Area of a mark or label, relative to the panel."""

    left: float
    right: float
    level: float

    def meets(self, other: Box) -> bool:
        """Whether the two overlap."""
        return self.left < other.right and other.left < self.right and abs(self.level - other.level) < LINE


def draw_metric(axes: Axes, report: BenchReport, shape: str) -> None:
    """Metric over median latency; only for models with a metric, each named without overlap."""
    points = [(model, model.timing(shape).p50_ms, model.metric) for model in report.models if model.metric is not None]
    longest = 1.08 * max(x for _, x, _ in points)
    lowest, highest = min(y for _, _, y in points), max(y for _, _, y in points)
    margin = max(0.25 * (highest - lowest), 0.005)
    bottom, height = lowest - margin, highest - lowest + 2 * margin
    marks = tuple(Box(x / longest - MARK / 2, x / longest + MARK / 2, (y - bottom) / height) for _, x, y in points)
    labels = label_boxes(marks, [CHARACTER * len(model.label) for model, _, _ in points])
    for (model, x, y), mark, label in zip(points, marks, labels, strict=True):
        add_point(axes, model, x, y)
        on_left = label.right == mark.left
        axes.annotate(
            one_line(model.label), (x, y),
            xytext=(-OFFSET_POINTS if on_left else OFFSET_POINTS, bottom + label.level * height),
            textcoords=("offset points", "data"), ha="right" if on_left else "left", va="center", fontsize=8,
            color=PALETTE[model.precision],
        )  # fmt: skip
    levels = [label.level for label in labels]
    axes.set_xlim(0, longest)
    axes.set_ylim(bottom + min(0, min(levels) - LINE) * height, bottom + max(1, max(levels) + LINE) * height)
    axes.set_xlabel("median latency, ms")
    axes.set_ylabel(report.metric_name)
    axes.set_title(shape)


def metric_keys(report: BenchReport) -> tuple[Key, ...]:
    """The legend of marks."""
    return tuple(point_keys(tuple(model for model in report.models if model.metric is not None)))


def label_boxes(marks: tuple[Box, ...], widths: list[float]) -> list[Box]:
    """Places for labels that overlap neither marks nor other labels.

    Args:
        marks: the points.
        widths: label widths relative to the panel.
    """
    labels: list[Box] = []
    for mark, width in zip(marks, widths, strict=True):
        taken = (*marks, *labels)
        labels.append(next(box for box in _places(mark, width) if not any(map(box.meets, taken))))
    return labels


def _places(mark: Box, width: float) -> Iterator[Box]:
    """Candidate places of a mark's label: right or left of it within the panel, then further above and below."""
    sides = [(mark.right, mark.right + width), (mark.left - width, mark.left)]
    within = [side for side in sides if side[0] >= 0 and side[1] <= 1] or sides[:1]
    for step in count():
        for level in (mark.level + step * LINE / 2, mark.level - step * LINE / 2):
            yield from (Box(left, right, level) for left, right in within)
