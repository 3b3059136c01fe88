"""Chooses an export's judges, which ask the cost table about gathers and about linears that int8 slows down."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from finegates_export.costs.blocks.measured_targets import MEASURED_TARGETS

if TYPE_CHECKING:
    from finegates_export.costs.cost_table import CostTable
    from finegates_export.costs.int8_judge import Int8Judge
    from finegates_export.costs.timing.block_times import Precision
    from finegates_export.pipeline.options import ExportOptions
    from finegates_export.pruning.residual_sides import Judge


def gather_judge(options: ExportOptions) -> Judge:
    """The judge of gathers that an export asks for."""
    from finegates_export.costs.cost_table import DEFAULT_PRECISION
    from finegates_export.costs.gather_judge import GatherJudge
    from finegates_export.pruning.residual_sides import always, never

    if options.gathers != "auto" or options.graph_target not in MEASURED_TARGETS:
        return always if options.gathers == "always" else never
    return GatherJudge(_table(options, DEFAULT_PRECISION), options.tokens)


def int8_judge(options: ExportOptions) -> Int8Judge | None:
    """The judge of linears that int8 slows down; None if nothing is measured."""
    from finegates_export.costs.int8_judge import PRECISION, Int8Judge

    measured = options.quantize == "int8" and options.graph_target in MEASURED_TARGETS
    if not measured or options.int8_linears == "all":
        return None
    return Int8Judge(_table(options, PRECISION), options.tokens)


def _table(options: ExportOptions, precision: Precision) -> CostTable:
    from finegates_export.costs.cost_table import CostTable

    return CostTable(options.threads or os.cpu_count() or 1, options.graph_target, precision)
