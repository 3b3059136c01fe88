"""The report's tables as text cells, for whoever renders them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from finegates_bench.results import BenchReport, ModelResult
from finegates_export.export_report import MIB

NOTHING = "-"


@dataclass(frozen=True)
class Row:
    """One line's cells."""

    cells: tuple[str, ...]
    """The first names the row, the others are numbers."""
    trained: bool = True


@dataclass(frozen=True)
class Table:
    """A table with its title."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def tables(report: BenchReport) -> Iterator[Table]:
    """The models, then their timings, a table per shape."""
    yield models_table(report)
    for shape in report.shapes:
        yield shape_table(report, shape)


def models_table(report: BenchReport) -> Table:
    """What each model is: size, and how well it does."""
    columns = ("model", "removed", "kept weights", "of them padding", "parameters", "file, MiB", report.metric_name)
    rows = tuple(
        Row(
            (
                model.label,
                f"{model.removed:.1%}",
                f"{model.kept_weights:,}",
                f"{model.padding_weights:,}",
                f"{model.parameters:,}",
                f"{model.file_bytes / MIB:.1f}",
                metric_words(model),
            ),
            model.trained,
        )
        for model in report.models
    )
    return Table("Models", columns, rows)


def shape_table(report: BenchReport, shape: str) -> Table:
    """How fast each model is at one shape."""
    columns = (
        "model", "p50, ms", "p95, ms", "rows/s", "ratio", "95 % interval", "kept FLOPs", "ratio / kept", "GFLOP/s",
    )  # fmt: skip
    rows = []
    for model in report.models:
        timing = model.timing(shape)
        quotient = timing.ratio_over_kept_flops
        cells = (
            model.label,
            f"{timing.p50_ms:.2f}",
            f"{timing.p95_ms:.2f}",
            f"{timing.rows_per_second:,.0f}",
            f"{timing.ratio:.2f}",
            f"{timing.ratio_low:.2f} to {timing.ratio_high:.2f}",
            f"{timing.kept_flops:.2f}",
            NOTHING if quotient is None else f"{quotient:.2f}",
            f"{timing.gflop_per_second:.1f}",
        )
        rows.append(Row(cells, model.trained))
    return Table(f"{shape}, {report.models[0].timing(shape).rounds} rounds", columns, tuple(rows))


def metric_words(model: ModelResult) -> str:
    """The metric, marked where it is training's own."""
    if model.metric is None:
        return NOTHING
    return f"{model.metric:.4f}" + (" (training)" if model.metric_source == "training" else "")
