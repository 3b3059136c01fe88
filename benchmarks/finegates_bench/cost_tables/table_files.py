"""A cost table as files.

table.json                       everything, for programs
table.md                         the tables
staircase.png, staircase.svg     milliseconds over width, where a base's layers were measured
"""

from __future__ import annotations

from pathlib import Path

from finegates_bench.cost_tables import kept_tables, table_markdown
from finegates_bench.cost_tables.kept_costs import KeptCosts
from finegates_bench.cost_tables.table_plots import save_staircase
from finegates_bench.cost_tables.table_results import CostReport
from finegates_export.common.files import staged_folder, write_json

TABLE_JSON, TABLE_MARKDOWN = "table.json", "table.md"


def save_table(table: CostReport | KeptCosts, out: Path, *, overwrite: bool = False) -> None:
    """Write all files into a folder, which appears whole or not at all.

    Args:
        table: what `cost_table` found.
        out: the folder.
        overwrite: replace what is there.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: `out` exists and `overwrite` is off, or it cannot be written.
    """
    with staged_folder(Path(out), overwrite=overwrite, marks=(TABLE_JSON,)) as folder:
        write_json(folder / TABLE_JSON, table.to_json())
        (folder / TABLE_MARKDOWN).write_text(table_text(table), encoding="utf-8")
        if isinstance(table, CostReport):
            save_staircase(table, folder)


def table_text(table: CostReport | KeptCosts) -> str:
    """A table as Markdown, as the command prints it."""
    return kept_tables.markdown(table) if isinstance(table, KeptCosts) else table_markdown.markdown(table)
