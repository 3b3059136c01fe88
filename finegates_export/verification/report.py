"""The chain as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from finegates_export.common.words import one_line
from finegates_export.verification.agreed import Agreed, Recall
from finegates_export.verification.link import Link

MOST_LABELS = 12
"""Labels that a report lists."""


def chain_table(links: list[Link], metric: str = "") -> str:
    """The links as lines of text: name, differences, equal predictions, metric.

    Args:
        links: the chain's.
        metric: the metric's name, which heads its column.
    """
    title = metric or "metric"
    width = max(8, len(title))
    head = f"{'link':<22}  {'max |diff|':>10}  {'of scale':>9}  {'hidden':>9}  {'equal':>8}  {title:>{width}}  held to"
    lines = [head]
    for link in links:
        hidden = f"{link.hidden_relative:.1e}" if link.hidden_relative is not None else "-"
        equal = f"{link.agreement:.2%}" if link.agreement is not None else "-"
        value = f"{link.metric:.4f}" if link.metric is not None else "-"
        held = "predictions" if not link.exact else "difference" if link.gated_rounding is None else "float64"
        differences = f"{link.absolute:>10.1e}  {link.relative:>9.1e}  {hidden:>9}"
        lines.append(f"{link.name:<22}  {differences}  {equal:>8}  {value:>{width}}  {held}")
    rounded = [link.gated_rounding for link in links if link.gated_rounding is not None]
    if rounded:
        lines.append(
            "float64: the model magnifies rounding, so these links are compared with the gated model in float64, from "
            f"which its own float32 differs by {max(rounded):.1e} of the scale"
        )
    return "\n".join(lines)


def recall_rows(recalls: Sequence[Recall]) -> Iterator[tuple[str, str, str]]:
    """What became of each label, as cells: its name, and what the gated model and the form find or say of it.

    Of many labels, those that lost most; the record in `bundle.json` has all.
    """
    chosen = sorted(recalls, key=lambda one: one.kept / max(1, one.said))[:MOST_LABELS] if recalls else []
    for one in recalls:
        if one not in chosen:
            continue
        if one.true:
            yield f"recall of {one.label}", f"{one.found_by_gated} of {one.true}", f"{one.found} of {one.true}"
        else:
            yield f"says {one.label}", f"{one.said}", f"{one.kept} of them"


def agreed_lines(agreed: Agreed) -> Iterator[str]:
    """The counts behind an agreement, and what so many predictions can vouch for, as lines of text."""
    yield (
        f"  {agreed.equal:,} of {agreed.compared:,} predictions are equal: at least {agreed.at_least:.2%} of all are, "
        "at 95 % confidence"
    )
    if agreed.rare:
        yield f"  other than the most frequent answer: {agreed.rare_equal:,} of {agreed.rare:,} are equal"
    for name, gated, form in recall_rows(agreed.recalls):
        yield f"  {one_line(name)}: {gated} by the gated model, {form} by this form"
