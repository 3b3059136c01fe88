"""Two reports side by side, as values, as JSON and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from finegates_bench.reports.report_markdown import table_lines
from finegates_bench.reports.report_tables import NOTHING, Row, Table
from finegates_export.common.words import in_markdown


@dataclass(frozen=True)
class Side:
    """A model at one shape in one of the reports."""

    p50_ms: float
    ratio: float
    """Median divided by that of the same report's unpruned model."""
    metric: float | None


@dataclass(frozen=True)
class Pair:
    """A model at one shape in both reports."""

    model: str
    """Its id."""
    label: str
    trained: bool
    shape: str
    before: Side
    after: Side

    @property
    def milliseconds_quotient(self) -> float:
        """Median after divided by median before."""
        return self.after.p50_ms / self.before.p50_ms

    @property
    def ratio_quotient(self) -> float:
        """Ratio to the unpruned model, after over before, independent of the machine's speed on either day."""
        return self.after.ratio / self.before.ratio

    def quotient(self, *, absolute: bool) -> float:
        """The quantity that the limit applies to."""
        return self.milliseconds_quotient if absolute else self.ratio_quotient


@dataclass(frozen=True)
class Comparison:
    """The outcome of `compare`; `str(comparison)` is the Markdown that the command prints."""

    before: str
    """Place of the first report."""
    after: str
    metric_name: str
    pairs: tuple[Pair, ...]
    """By shape, then in the order of the first report."""
    only_before: tuple[str, ...]
    """Ids of models missing from the second report."""
    only_after: tuple[str, ...]
    notes: tuple[str, ...]
    """How the two measurements differ."""
    limit: float | None
    """The limit for every quotient; None for no verdict."""
    absolute: bool
    """Whether the limit applies to milliseconds instead of ratios to the unpruned model."""

    @property
    def slower(self) -> tuple[Pair, ...]:
        """The pairs over the limit."""
        if self.limit is None:
            return ()
        return tuple(pair for pair in self.pairs if pair.quotient(absolute=self.absolute) > self.limit)

    @property
    def verdict(self) -> str:
        """The verdict in one line; empty without a limit."""
        if self.limit is None:
            return ""
        judged = "milliseconds" if self.absolute else "ratio to unpruned"
        if not self.slower:
            return f"no model is slower than {self.limit:g} times before ({judged})"
        named = (f"{pair.model} at {pair.shape} ({pair.quotient(absolute=self.absolute):.3f})" for pair in self.slower)
        return f"slower than {self.limit:g} times before ({judged}): {', '.join(named)}"

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON types; including quotients and verdict."""
        pairs = [
            {
                **asdict(pair),
                "milliseconds_quotient": pair.milliseconds_quotient,
                "ratio_quotient": pair.ratio_quotient,
                "slower": pair in self.slower,
            }
            for pair in self.pairs
        ]
        lists = {name: list(getattr(self, name)) for name in ("only_before", "only_after", "notes")}
        return {**asdict(self), **lists, "pairs": pairs, "verdict": self.verdict}

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"- before: {in_markdown(self.before)}"
        yield f"- after: {in_markdown(self.after)}"
        yield "- ratio: median over that of the same report's unpruned model, measured in turns with it"
        yield "- milliseconds: of two runs, not measured in turns"
        for shape in dict.fromkeys(pair.shape for pair in self.pairs):
            yield from ("", f"## {shape}", "")
            yield from table_lines(self._table(shape))
        lonely = (("before", self.only_before), ("after", self.only_after))
        notes = [*(f"Only {when}: {', '.join(models)}." for when, models in lonely if models), *self.notes]
        if notes:
            yield from ("", "## Notes", "")
            yield from (f"- {in_markdown(note)}" for note in notes)
        if self.verdict:
            yield from ("", in_markdown(f"{self.verdict[0].upper()}{self.verdict[1:]}."))

    def _table(self, shape: str) -> Table:
        columns = (
            "model", "p50 before, ms", "after, ms", "after / before",
            "ratio before", "ratio after", "after / before", f"{self.metric_name} before", "after",
        )  # fmt: skip
        rows = tuple(
            Row(
                (
                    pair.label,
                    f"{pair.before.p50_ms:.2f}",
                    f"{pair.after.p50_ms:.2f}",
                    f"{pair.milliseconds_quotient:.3f}",
                    f"{pair.before.ratio:.3f}",
                    f"{pair.after.ratio:.3f}",
                    f"{pair.ratio_quotient:.3f}",
                    *(NOTHING if side.metric is None else f"{side.metric:.4f}" for side in (pair.before, pair.after)),
                ),
                pair.trained,
            )
            for pair in self.pairs
            if pair.shape == shape
        )
        return Table(shape, columns, rows)
