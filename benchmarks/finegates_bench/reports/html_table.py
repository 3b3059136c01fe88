"""A table as HTML, in its own box that scrolls on narrow pages."""

from __future__ import annotations

from collections.abc import Iterator

from finegates_bench.reports.report_tables import Table
from finegates_export.common.words import in_html


def html_table(table: Table) -> Iterator[str]:
    """Its lines; the first column stays visible while the others scroll."""
    # Browsers allow keyboard scrolling only in focusable elements.
    yield f'<div class="scroll" tabindex="0" role="region" aria-label="{in_html(table.title)}"><table>'
    yield "<thead><tr>" + "".join(f'<th scope="col">{in_html(name)}</th>' for name in table.columns) + "</tr></thead>"
    yield "<tbody>"
    for row in table.rows:
        name, *numbers = row.cells
        kind = "" if row.trained else ' class="untrained"'
        cells = "".join(f"<td>{in_html(number)}</td>" for number in numbers)
        yield f'<tr{kind}><th scope="row">{in_html(name)}</th>{cells}</tr>'
    yield "</tbody>"
    yield "</table></div>"
