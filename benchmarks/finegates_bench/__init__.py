"""Latency, accuracy and size of a run's levels against the unpruned model; what a base's layers cost by their widths.

Importing this package imports neither torch nor transformers: the process that measures starts from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finegates_bench.kept_costs import KeptCosts
    from finegates_bench.options import BenchOptions
    from finegates_bench.report_files import report
    from finegates_bench.results import BenchReport
    from finegates_bench.sweep import measure
    from finegates_bench.table_files import save_table
    from finegates_bench.table_options import TableOptions
    from finegates_bench.table_results import CostReport
    from finegates_bench.table_sweep import cost_table

__all__ = [
    "BenchOptions",
    "BenchReport",
    "CostReport",
    "KeptCosts",
    "TableOptions",
    "cost_table",
    "measure",
    "report",
    "save_table",
]

_HOMES = {
    "BenchOptions": "finegates_bench.options",
    "BenchReport": "finegates_bench.results",
    "CostReport": "finegates_bench.table_results",
    "KeptCosts": "finegates_bench.kept_costs",
    "TableOptions": "finegates_bench.table_options",
    "cost_table": "finegates_bench.table_sweep",
    "measure": "finegates_bench.sweep",
    "report": "finegates_bench.report_files",
    "save_table": "finegates_bench.table_files",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
