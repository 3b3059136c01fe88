"""The chain as a table."""

from __future__ import annotations

from finegates_export.verification.chain import Link


def chain_table(links: list[Link]) -> str:
    """The links as lines of text: name, differences, equal predictions, metric."""
    head = f"{'link':<22}  {'max |diff|':>10}  {'of scale':>9}  {'hidden':>9}  {'equal':>8}  {'metric':>8}  held to"
    lines = [head]
    for link in links:
        hidden = f"{link.hidden_relative:.1e}" if link.hidden_relative is not None else "-"
        equal = f"{link.agreement:.2%}" if link.agreement is not None else "-"
        metric = f"{link.metric:.4f}" if link.metric is not None else "-"
        held = "difference" if link.exact else "predictions"
        differences = f"{link.absolute:>10.1e}  {link.relative:>9.1e}  {hidden:>9}"
        lines.append(f"{link.name:<22}  {differences}  {equal:>8}  {metric:>8}  {held}")
    return "\n".join(lines)
