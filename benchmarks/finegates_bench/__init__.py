"""Latency, accuracy and size of a run's levels against the unpruned model; what a base's layers cost by their widths.

Importing this package imports neither torch nor transformers: the process that measures starts from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finegates_bench.comparing.compare_options import CompareOptions
    from finegates_bench.comparing.compare_reports import compare
    from finegates_bench.comparing.comparison import Comparison
    from finegates_bench.cost_tables.kept_costs import KeptCosts
    from finegates_bench.cost_tables.table_files import save_table
    from finegates_bench.cost_tables.table_options import TableOptions
    from finegates_bench.cost_tables.table_results import CostReport
    from finegates_bench.cost_tables.table_sweep import cost_table
    from finegates_bench.measuring.options import BenchOptions
    from finegates_bench.measuring.results import BenchReport
    from finegates_bench.measuring.sweep import measure
    from finegates_bench.reports.report_files import report
    from finegates_bench.reports.report_reading import read_report

__all__ = [
    "BenchOptions",
    "BenchReport",
    "CompareOptions",
    "Comparison",
    "CostReport",
    "KeptCosts",
    "TableOptions",
    "compare",
    "cost_table",
    "measure",
    "read_report",
    "report",
    "save_table",
]

_HOMES = {
    "BenchOptions": "finegates_bench.measuring.options",
    "BenchReport": "finegates_bench.measuring.results",
    "CompareOptions": "finegates_bench.comparing.compare_options",
    "Comparison": "finegates_bench.comparing.comparison",
    "CostReport": "finegates_bench.cost_tables.table_results",
    "KeptCosts": "finegates_bench.cost_tables.kept_costs",
    "TableOptions": "finegates_bench.cost_tables.table_options",
    "compare": "finegates_bench.comparing.compare_reports",
    "cost_table": "finegates_bench.cost_tables.table_sweep",
    "measure": "finegates_bench.measuring.sweep",
    "read_report": "finegates_bench.reports.report_reading",
    "report": "finegates_bench.reports.report_files",
    "save_table": "finegates_bench.cost_tables.table_files",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
