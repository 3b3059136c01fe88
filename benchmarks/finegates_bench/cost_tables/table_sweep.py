"""The verb `cost_table`: what a base's layers cost by their widths on this machine, or what was measured before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_bench.cost_tables.kept_costs import KeptCosts
from finegates_bench.cost_tables.table_files import TABLE_JSON
from finegates_bench.cost_tables.table_options import TableOptions
from finegates_bench.cost_tables.table_results import CostLine, CostReport, FormCosts, WidthCost
from finegates_bench.cost_tables.table_widths import WidthLine, width_lines
from finegates_bench.measuring.stamp import make_stamp
from finegates_export.common.files import check_destination
from finegates_export.common.tasks import PIXELS
from finegates_export.costs.blocks.block_shape import BlockShape
from finegates_export.costs.blocks.layer_shapes import AttentionShape
from finegates_export.costs.cost_table import Cost, CostTable
from finegates_export.costs.timing.block_times import Measurer, measure_blocks
from finegates_export.errors import InputError
from finegates_export.sources.places import check_base_place

if TYPE_CHECKING:
    from finegates_export.costs.layer_forms import LayerForm
    from finegates_export.sources.base import BaseModel

LIBRARY_CALL = "finegates_bench.cost_table (called from Python)"

Costs = dict[BlockShape, Cost]


def cost_table(
    options: TableOptions, say: Callable[[str], None] | None = None, measurer: Measurer = measure_blocks
) -> CostReport | KeptCosts:
    """Measure what the file of costs does not hold yet, in a fresh process, all widths in turns.

    Args:
        options: the table.
        say: is told what happens, a line at a time; nobody by default.
        measurer: what answers the table's questions.

    Returns:
        The costs of the base's layers; without a base, everything that the file holds.

    Raises:
        InputError: no such base or file, a file of another machine, or a shape that the model does not take.
        MeasurementError: the process that measures died.
        OutputError: the result could not be written at `options.out`.
        UnsupportedError: the layers have something that the blocks do not model.
    """
    if options.out is not None:
        check_destination(
            options.out, overwrite=options.overwrite, marks=(TABLE_JSON,), reads=(options.base, options.file)
        )
    if options.file is not None and options.base is None and not options.file.is_file():
        raise InputError(f"cost table {options.file} does not exist; give --base to measure one")
    if options.base is not None:
        check_base_place(options.base)  # before what takes seconds to import
    table = CostTable(options.threads, options.target, options.precision(), measurer, options.file)
    if options.base is None:
        return KeptCosts.of(table)
    return _measured(options, table, say or _silent)


def _measured(options: TableOptions, table: CostTable, say: Callable[[str], None]) -> CostReport:
    from finegates_export.sources.base import find_base

    base = find_base(str(options.base))
    forms = _forms(base, options)
    lines = {form: width_lines(form, options.dense, options.around) for form in dict.fromkeys(forms)}
    blocks = [block for three in lines.values() for line in three for block in (line.empty, *line.blocks.values())]
    wanted = dict.fromkeys(blocks)
    missing = wanted.keys() - table.known().keys()
    say(f"measuring {len(missing)} of {len(wanted)} blocks at {options.shape}; {table.path} keeps them")
    costs = table.milliseconds(list(wanted))
    return CostReport(
        stamp=make_stamp(options.threads, LIBRARY_CALL),
        base=base.id if base.revision else Path(base.id).name,
        shape=options.shape,
        target=options.target,
        measured=len(missing),
        kept=len(wanted) - len(missing),
        forms=tuple(
            FormCosts(
                layers=tuple(index for index, other in enumerate(forms) if other == form),
                hidden=form[0].hidden,
                lines=tuple(_line(line, form, costs) for line in three),
            )
            for form, three in lines.items()
        ),
    )


def _forms(base: BaseModel, options: TableOptions) -> tuple[LayerForm, ...]:
    from finegates_export.costs.layer_forms import layer_forms

    family, config, shape = base.family(), base.config(), options.parsed_shape()
    longest = family.max_length(config)
    if shape.sequence > longest:
        raise InputError(f"shape {shape} is longer than the model allows ({longest} tokens); choose another --shape")
    if family.input_names(config) == (PIXELS,) and shape.sequence != longest:
        raise InputError(
            f"shape {shape} does not have the length of an image ({longest} tokens, patches and what stands before "
            f"them); give --shape {shape.batch}x{longest}"
        )
    return layer_forms(family, config, shape)


def _line(line: WidthLine, form: LayerForm, costs: Costs) -> CostLine:
    attention, _ = form
    fixed = {
        "neurons": "",
        "dims": f"{attention.all_heads} heads",
        "heads": f"{attention.head_dim} dims a head",
    }
    norm = costs[line.empty].median
    points = tuple(_point(width, block, costs[block], norm) for width, block in line.blocks.items())
    return CostLine(line.axis, fixed[line.axis], points, (line.dense[0], line.dense[-1]) if line.dense else None)


def _point(width: int, block: BlockShape, cost: Cost, norm: float) -> WidthCost:
    packed = isinstance(block, AttentionShape) and block.packed
    return WidthCost(width, cost.median - norm, cost.low - norm, cost.high - norm, cost.rounds, packed)


def _silent(_line: str) -> None:
    """Nobody listens."""
