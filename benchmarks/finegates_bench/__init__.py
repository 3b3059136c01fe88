"""Latency, accuracy and size of a run's levels against the unpruned model; what a base's layers cost by width.

Importing this package imports neither torch nor transformers, since the measuring process starts here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from finegates_export.common.public_names import public_names

if TYPE_CHECKING:  # what type checkers read; tests/test_public_face.py holds it equal to the table
    from finegates_bench.comparing.compare_options import CompareOptions as CompareOptions
    from finegates_bench.comparing.compare_reports import compare as compare
    from finegates_bench.comparing.comparison import Comparison as Comparison
    from finegates_bench.cost_tables.kept_costs import KeptCosts as KeptCosts
    from finegates_bench.cost_tables.table_files import save_table as save_table
    from finegates_bench.cost_tables.table_options import TableOptions as TableOptions
    from finegates_bench.cost_tables.table_results import CostReport as CostReport
    from finegates_bench.cost_tables.table_sweep import cost_table as cost_table
    from finegates_bench.measuring.options import BenchOptions as BenchOptions
    from finegates_bench.measuring.results import BenchReport as BenchReport
    from finegates_bench.measuring.sweep import measure as measure
    from finegates_bench.reports.report_files import report as report
    from finegates_bench.reports.report_reading import read_report as read_report

    __version__: str
else:
    __getattr__, __dir__, __all__ = public_names(
        __name__,
        {
            "BenchOptions": "finegates_bench.measuring.options:BenchOptions",
            "BenchReport": "finegates_bench.measuring.results:BenchReport",
            "CompareOptions": "finegates_bench.comparing.compare_options:CompareOptions",
            "Comparison": "finegates_bench.comparing.comparison:Comparison",
            "CostReport": "finegates_bench.cost_tables.table_results:CostReport",
            "KeptCosts": "finegates_bench.cost_tables.kept_costs:KeptCosts",
            "TableOptions": "finegates_bench.cost_tables.table_options:TableOptions",
            "compare": "finegates_bench.comparing.compare_reports:compare",
            "cost_table": "finegates_bench.cost_tables.table_sweep:cost_table",
            "measure": "finegates_bench.measuring.sweep:measure",
            "read_report": "finegates_bench.reports.report_reading:read_report",
            "report": "finegates_bench.reports.report_files:report",
            "save_table": "finegates_bench.cost_tables.table_files:save_table",
        },
    )
