"""The verb `report`: a measurement as files.

report.json     everything, for programs; `BenchReport.from_json` reads it
report.md       the tables
metric.png      metric against latency, per shape (and .svg), where there is a metric
latency.png     ratio across removed share, per shape, with the arithmetic limit (and .svg)
plan.png        what is left of every layer, per model (and .svg)
index.html      all of it on one page that fetches nothing
"""

from __future__ import annotations

from pathlib import Path

from finegates_bench.measuring.results import REPORT_JSON, BenchReport
from finegates_bench.reports.report_html import html_page
from finegates_bench.reports.report_markdown import markdown
from finegates_bench.reports.report_plots import plots, save_plot
from finegates_export.common.files import staged_folder, write_json

REPORT_MARKDOWN, PAGE = "report.md", "index.html"


def report(measured: BenchReport, out: Path, *, overwrite: bool = False) -> None:
    """Write all files of a report into a folder, atomically.

    Args:
        measured: the result of `measure`.
        out: the folder.
        overwrite: replace an existing folder.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: `out` exists and `overwrite` is off, or it cannot be written.
    """
    with staged_folder(Path(out), overwrite=overwrite, marks=(REPORT_JSON,)) as folder:
        write_json(folder / REPORT_JSON, measured.to_json())
        (folder / REPORT_MARKDOWN).write_text(markdown(measured), encoding="utf-8")
        for plot in plots(measured):
            save_plot(plot, measured, folder)
        (folder / PAGE).write_text(html_page(measured), encoding="utf-8")
