"""Tables of a cost file's contents, one per group of blocks that differ only in widths, and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from finegates_bench.cost_tables.kept_costs import KeptCosts
from finegates_bench.cost_tables.table_markdown import threads_told
from finegates_bench.reports.report_markdown import table_lines
from finegates_bench.reports.report_tables import NOTHING, Row, Table
from finegates_export.costs.blocks.block_shape import BlockShape
from finegates_export.costs.blocks.layer_shapes import AttentionShape, FeedForwardShape
from finegates_export.costs.blocks.linear_shape import LinearShape
from finegates_export.costs.cost_table import Way
from finegates_export.costs.timing.statistics import Interval

COST_COLUMNS = ("ms", "95 % interval", "rounds")


@dataclass(frozen=True)
class BlockKind:
    """How to present blocks of one kind. Every function takes such a block."""

    title: Callable[[Any], str]
    """The common part of blocks in one table."""
    columns: tuple[str, ...]
    cells: Callable[[Any], tuple[str, ...]]
    """Its widths, in the order of the columns."""
    order: Callable[[Any], tuple[int, ...]]
    """The sort key of rows."""


def markdown(kept: KeptCosts) -> str:
    """All tables and the stamp."""
    lines = [
        f"# Costs kept for {kept.stamp['target']}, {threads_told(kept.stamp['threads'])}",
        "",
        f"{len(kept.costs)} blocks and {len(kept.ratios)} comparisons. Milliseconds of one block: of a linear, or of a "
        "half of a layer with its residual sum and its norm.",
    ]
    for table in kept_tables(kept):
        lines += ["", f"## {table.title}", "", *table_lines(table)]
    lines += ["", "## Measured", "", *(f"- {name}: {value}" for name, value in kept.stamp.items())]
    return "\n".join(lines) + "\n"


def kept_tables(kept: KeptCosts) -> Iterator[Table]:
    """A table for every title, then the comparisons."""
    titled: dict[str, list[BlockShape]] = {}
    for shape in kept.costs:
        titled.setdefault(KINDS[shape.kind].title(shape), []).append(shape)
    for title, shapes in sorted(titled.items()):
        kind = KINDS[shapes[0].kind]
        rows = []
        for shape in sorted(shapes, key=kind.order):
            cost = kept.costs[shape]
            interval = f"{cost.low:.3f} to {cost.high:.3f}"
            rows.append(Row((*kind.cells(shape), f"{cost.median:.3f}", interval, f"{cost.rounds}")))
        yield Table(title, (*kind.columns, *COST_COLUMNS), tuple(rows))
    if kept.ratios:
        columns = ("first way", "second way", "tokens", "second over first", "95 % interval", "rounds")
        yield Table("Ways compared", columns, tuple(_compared(ways, ratio) for ways, ratio in kept.ratios.items()))


def _compared(ways: tuple[Way, Way], ratio: Interval) -> Row:
    first, second = (", ".join(map(_linear, way)) for way in ways)
    interval = f"{ratio.low:.3f} to {ratio.high:.3f}"
    return Row((first, second, f"{ways[0][0].tokens:,}", f"{ratio.median:.3f}", interval, f"{ratio.rounds}"))


def _linear(shape: LinearShape) -> str:
    read = f"{shape.inputs}" if shape.read_from is None else f"{shape.inputs} of {shape.read_from}"
    written = f"{shape.outputs}" if shape.write_to is None else f"{shape.outputs} of {shape.write_to}"
    return f"{read} to {written}{_precision(shape)}"


def _precision(shape: LinearShape) -> str:
    return "" if shape.precision == "float32" else f" in {shape.precision}"


def _linear_cells(shape: LinearShape) -> tuple[str, ...]:
    sources = [NOTHING if width is None else f"{width:,}" for width in (shape.read_from, shape.write_to)]
    behind = "bias, GELU" if shape.activation else "bias" if shape.bias else NOTHING
    return (f"{shape.inputs:,}", sources[0], f"{shape.outputs:,}", sources[1], behind)


def _attention_title(shape: AttentionShape) -> str:
    terms = f", {shape.terms} terms over {shape.positions} positions" if shape.terms else ""
    return f"Attention, {_place(shape)}, {shape.all_heads} heads of {shape.head_dim}, {shape.style}{terms}"


def _attention_cells(shape: AttentionShape) -> tuple[str, ...]:
    if not shape.heads:
        return ("0", NOTHING, NOTHING, NOTHING)
    return (f"{shape.heads}", f"{shape.qk}", f"{shape.vo}", "one operator" if shape.packed else "apart")


def _place(shape: AttentionShape | FeedForwardShape) -> str:
    return f"{shape.batch}x{shape.sequence}, residual width {shape.hidden}" + ("" if shape.biased else ", no biases")


KINDS: dict[str, BlockKind] = {
    LinearShape.kind: BlockKind(
        lambda shape: f"Linears{_precision(shape)}, {shape.tokens:,} tokens",
        ("inputs", "gathered from", "outputs", "spread over", "behind it"),
        _linear_cells,
        lambda shape: (shape.width_in, shape.inputs, shape.width_out, shape.outputs, shape.bias, shape.activation),
    ),
    AttentionShape.kind: BlockKind(
        _attention_title,
        ("heads", "Q/K dims", "V/O dims", "Q, K, V"),
        _attention_cells,
        lambda shape: (shape.heads, shape.qk, shape.vo, shape.packed),
    ),
    FeedForwardShape.kind: BlockKind(
        lambda shape: f"Feed-forward, {_place(shape)}, {shape.activation}{', gated' if shape.gated else ''}",
        ("neurons",),
        lambda shape: (f"{shape.neurons:,}",),
        lambda shape: (shape.neurons,),
    ),
}
