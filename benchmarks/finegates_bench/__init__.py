"""Latency, accuracy and size of a run's levels against the unpruned model, measured and reported.

Importing this package imports neither torch nor transformers: the process that measures starts from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finegates_bench.compare_options import CompareOptions
    from finegates_bench.compare_reports import compare
    from finegates_bench.comparison import Comparison
    from finegates_bench.options import BenchOptions
    from finegates_bench.report_files import report
    from finegates_bench.report_reading import read_report
    from finegates_bench.results import BenchReport
    from finegates_bench.sweep import measure

__all__ = [
    "BenchOptions",
    "BenchReport",
    "CompareOptions",
    "Comparison",
    "compare",
    "measure",
    "read_report",
    "report",
]

_HOMES = {
    "BenchOptions": "finegates_bench.options",
    "BenchReport": "finegates_bench.results",
    "CompareOptions": "finegates_bench.compare_options",
    "Comparison": "finegates_bench.comparison",
    "compare": "finegates_bench.compare_reports",
    "measure": "finegates_bench.sweep",
    "read_report": "finegates_bench.report_reading",
    "report": "finegates_bench.report_files",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
