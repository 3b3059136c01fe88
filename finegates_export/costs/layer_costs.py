"""The costs of a model's layer halves on this machine, as functions of their widths.

costs = measure_layer_costs(family, config, Shape(8, 128), threads=2)
costs[0].attention_ms(heads=8, qk=24, vo=32), costs[0].feed_forward_ms([512, 1024])

A half's cost excludes its residual sum and norm, which always remain: an empty half costs 0. Widths are dims; a rotary
pair is two of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from finegates_export.common.files import staged_file, write_json
from finegates_export.common.shapes import Shape
from finegates_export.costs.blocks.block_shape import BlockShape
from finegates_export.costs.blocks.layer_shapes import PACKING_STYLES, AttentionShape, FeedForwardShape
from finegates_export.costs.cost_file import Stamp, check_stamp, make_stamp
from finegates_export.costs.cost_table import CostTable
from finegates_export.costs.grid import Grid, Values
from finegates_export.costs.knots import dim_knots, head_knots, neuron_knots, packed_knots
from finegates_export.costs.layer_forms import layer_forms
from finegates_export.costs.timing.block_times import Measurer, Precision, measure_blocks
from finegates_export.errors import InputError
from finegates_export.families.model_config import ModelConfig
from finegates_export.graphs.passes.packing import packed_width, packs_well

if TYPE_CHECKING:
    from finegates_export.families.family import Family

Blocks = Mapping[tuple[int, ...], BlockShape]
"""The blocks at the knots of a grid."""

SCHEMA = 1
GRID_PRECISION = Precision(half_width=0.02, seconds=30.0)


@dataclass(frozen=True, eq=False)
class LayerCosts:
    """The costs of layers of one form."""

    shape: Shape
    """The input shape of the measurement."""
    target: str
    threads: int
    whole_attention: AttentionShape
    """The unpruned layer's attention ..."""
    whole_feed_forward: FeedForwardShape
    """... and its feed-forward network."""
    attention: Grid
    """By heads, Q/K dims per head, V/O dims per head; Q, K and V in separate operators."""
    packed: Grid | None
    """By heads and dims per head, with Q, K and V in one operator; None if the exporter makes none here."""
    feed_forward: Grid
    """By neurons."""
    stamp: Stamp
    """Identifies the machine and setup; see `cost_file.make_stamp`."""

    def attention_ms(self, heads: npt.ArrayLike, qk: npt.ArrayLike, vo: npt.ArrayLike) -> Values:
        """Milliseconds of attention; arrays broadcast against each other."""
        apart = self.attention.at(heads, qk, vo)
        if self.packed is None:
            return apart
        one = np.equal(qk, vo) & packs_well(heads, qk)
        return np.where(one, self.packed.at(heads, packed_width(qk, self.whole_attention.head_dim)), apart)

    def feed_forward_ms(self, neurons: npt.ArrayLike) -> Values:
        """Milliseconds of a feed-forward network."""
        return self.feed_forward.at(neurons)

    def to_json(self) -> dict[str, object]:
        """As JSON types."""
        return {
            "schema": SCHEMA,
            "stamp": self.stamp,
            "shape": str(self.shape),
            "whole_attention": self.whole_attention.to_json(),
            "whole_feed_forward": self.whole_feed_forward.to_json(),
            "attention": self.attention.to_json(),
            "packed": self.packed.to_json() if self.packed else None,
            "feed_forward": self.feed_forward.to_json(),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any], name: str = "the table") -> LayerCosts:
        """Rebuild from `to_json`.

        Args:
            values: the content.
            name: its name in messages.

        Raises:
            InputError: another schema, another machine, or damage.
        """
        if not isinstance(values, dict) or values.get("schema") != SCHEMA:
            found = values.get("schema") if isinstance(values, dict) else None
            raise InputError(
                f"{name} has layer costs of schema {found!r}, but this version reads {SCHEMA}; measure again"
            )
        try:
            stamp = dict(values["stamp"])
            check_stamp(stamp, make_stamp(stamp["target"], stamp["threads"]), name)
            return cls(
                Shape.parse(values["shape"]),
                stamp["target"],
                stamp["threads"],
                AttentionShape.from_json(values["whole_attention"]),
                FeedForwardShape.from_json(values["whole_feed_forward"]),
                Grid.from_json(values["attention"]),
                Grid.from_json(values["packed"]) if values["packed"] else None,
                Grid.from_json(values["feed_forward"]),
                stamp,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{name} is damaged ({error}); measure again") from error

    def save(self, path: Path) -> None:
        """Write a file atomically.

        Raises:
            OutputError: it cannot be written.
        """
        with staged_file(path, overwrite=True) as stage:
            write_json(stage, self.to_json())

    @classmethod
    def load(cls, path: Path) -> LayerCosts:
        """Read a file written by `save`.

        Raises:
            InputError: it cannot be read, has another schema, is another machine's, or is damaged.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"layer costs {path} cannot be read ({error}); measure again") from error
        return cls.from_json(values, str(path))


def measure_layer_costs(
    family: Family,
    config: ModelConfig,
    shape: Shape,
    *,
    target: str = "ort-cpu",
    threads: int = 2,
    precision: Precision = GRID_PRECISION,
    measurer: Measurer = measure_blocks,
) -> tuple[LayerCosts, ...]:
    """Measure what this machine's cache lacks, in a fresh process, all widths in turns.

    Args:
        family: the model's family.
        config: its config.
        shape: the input.
        target: whose graphs are measured.
        threads: CPU threads.
        precision: when to stop.
        measurer: answers the table's questions.

    Returns:
        One table per layer; layers of one form share it.

    Raises:
        UnsupportedError: the layers have parts that no block models.
        MeasurementError: the measuring process failed.
    """
    table = CostTable(threads, target, precision, measurer)
    forms = layer_forms(family, config, shape)
    costs = {form: _measure(table, shape, *form) for form in dict.fromkeys(forms)}
    return tuple(costs[form] for form in forms)


def _measure(table: CostTable, shape: Shape, attention: AttentionShape, feed_forward: FeedForwardShape) -> LayerCosts:
    heads, dims, neurons = head_knots(attention), dim_knots(attention), neuron_knots(feed_forward.neurons)
    middle = min(dims, key=lambda dim: abs(dim - attention.head_dim / 2))
    widths = dict.fromkeys([*((dim, middle) for dim in dims), *((middle, dim) for dim in dims)])
    apart = {(h, q, v): replace(attention, heads=h, qk=q, vo=v) for h in heads for q, v in widths}
    strips = packed_knots(attention) if attention.style in PACKING_STYLES else ()
    packed: Blocks = {(h, d): replace(attention, heads=h, qk=d, vo=d, packed=True) for h in heads for d in strips}
    networks: Blocks = {(n,): replace(feed_forward, neurons=n) for n in neurons}
    no_attention, no_network = replace(attention, heads=0), replace(feed_forward, neurons=0)
    # One question, so that a slow spell of the machine affects all widths alike.
    every: list[BlockShape] = [no_attention, no_network, *apart.values(), *packed.values(), *networks.values()]
    found = table.milliseconds(every)
    # Both empty halves are the same graph.
    norm = (found[no_attention].median + found[no_network].median) / 2

    def grid(blocks: Blocks, *axes: tuple[int, ...]) -> Grid:
        measured = np.array([found[blocks[knot]].median - norm for knot in product(*axes)])
        return _from_nothing(measured.reshape(tuple(map(len, axes))), axes)

    # Q and K have separate operators from V and O, so their costs add up.
    by_qk = np.array([[found[apart[h, dim, middle]].median for dim in dims] for h in heads])
    by_vo = np.array([[found[apart[h, middle, dim]].median for dim in dims] for h in heads])
    centre = np.array([found[apart[h, middle, middle]].median for h in heads])
    whole = by_qk[:, :, None] + by_vo[:, None, :] - centre[:, None, None] - norm
    return LayerCosts(
        shape,
        table.target,
        table.threads,
        attention,
        feed_forward,
        _from_nothing(whole, (heads, dims, dims)),
        grid(packed, heads, strips) if packed else None,
        grid(networks, neurons),
        make_stamp(table.target, table.threads),
    )


def _from_nothing(measured: Values, axes: tuple[tuple[int, ...], ...]) -> Grid:
    """The grid with the cost of an empty half prepended to its first axis."""
    whole = np.concatenate([np.zeros((1, *measured.shape[1:])), measured])
    return Grid.smoothed(((0, *axes[0]), *axes[1:]), whole)
