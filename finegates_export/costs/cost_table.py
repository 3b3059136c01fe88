"""The cost table: what linears and whole sublayers really cost on this machine, measured once and kept.

table = CostTable(threads=2)
decision = table.cheaper([LinearShape(1024, 768, 1843)], [LinearShape(1024, 595, 1843, read_from=768)])
decision.chosen, decision.why
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from finegates_export.costs.blocks.block_shape import BlockShape
from finegates_export.costs.blocks.block_shapes import read_shape, shape_to_json
from finegates_export.costs.blocks.linear_shape import LinearShape
from finegates_export.costs.cost_file import Entries, check_file, cost_path, make_stamp, read_entries, write_entries
from finegates_export.costs.timing.block_times import Measurer, Precision, Question, measure_blocks
from finegates_export.costs.timing.statistics import Interval, median_interval, ratio_interval
from finegates_export.errors import InputError, OutputError

NANOSECONDS_PER_MS = 1e6
DEFAULT_PRECISION = Precision()
KEPT_HALF_WIDTH = 0.05
"""Results whose interval is wider, as a share of the median, serve this process and are not kept on disk."""

MOST_NUMBERS = 1 << 30
"""Float32 numbers that the sessions of one process hold at most: 4 GiB."""

Way = tuple[LinearShape, ...]
Value = TypeVar("Value")
ShapeT = TypeVar("ShapeT", bound=BlockShape)


@dataclass(frozen=True)
class Cost:
    """What one block takes, in milliseconds: the median over the rounds and its 95 % interval."""

    median: float
    low: float
    high: float
    rounds: int


@dataclass(frozen=True)
class Decision:
    """Which of two ways is faster."""

    ratio: float
    """Time of the second way over that of the first: the median over rounds that ran both."""
    low: float
    """From here ..."""
    high: float
    """... to here lie 95 % of the medians that the bootstrap draws."""
    rounds: int
    chosen: Literal["a", "b"]
    """`b` only where the whole interval is below 1."""
    why: str


class CostTable:
    """Costs by shape, and decisions by pairs of ways; what is missing is measured and kept on disk.

    Args:
        threads: processor threads.
        target: whose graphs are measured.
        precision: when a measurement may stop.
        measurer: what answers a question; a fresh process unless a caller has something else.
        path: the file that keeps the results, if not that of this machine in the user's cache folder.

    Raises:
        InputError: `path` is there and holds something else than costs of this machine, target and thread count.
    """

    def __init__(
        self,
        threads: int,
        target: str = "ort-cpu",
        precision: Precision = DEFAULT_PRECISION,
        measurer: Measurer = measure_blocks,
        path: Path | None = None,
    ) -> None:
        self.threads, self.target, self.precision = threads, target, precision
        self._measurer = measurer
        self.stamp = make_stamp(target, threads)
        """Whose costs these are; see `cost_file.make_stamp`."""
        self.path = path or cost_path(self.stamp)
        """The file that keeps the results."""
        if path is not None and path.exists():
            check_file(path, self.stamp)
        self._costs: dict[BlockShape, Interval] = {}
        self._ratios: dict[tuple[Way, Way], Interval] = {}
        self._read()

    def milliseconds(self, shapes: Sequence[ShapeT]) -> dict[ShapeT, Cost]:
        """What blocks cost; those not known yet are measured side by side, as many as fit into memory.

        Raises:
            MeasurementError: the process that measures failed.
        """
        missing = [shape for shape in dict.fromkeys(shapes) if shape not in self._costs]
        for together in _that_fit(missing):
            times = self._measurer(Question(together, self.target, self.threads, self.precision))
            self._costs.update(zip(together, map(median_interval, times), strict=True))
            self._write()
        return {shape: _cost(self._costs[shape]) for shape in shapes}

    def known(self) -> dict[BlockShape, Cost]:
        """What is there already, in the order of the file."""
        return {shape: _cost(interval) for shape, interval in self._costs.items()}

    def known_ratios(self) -> dict[tuple[Way, Way], Interval]:
        """Comparisons that are there already: the time of the second way over that of the first."""
        return dict(self._ratios)

    def cheaper(self, a: Sequence[LinearShape], b: Sequence[LinearShape]) -> Decision:
        """Compare two ways to compute the same, in one run that takes turns.

        Args:
            a: the linears of the way that is taken when in doubt.
            b: the linears of the other way.

        Raises:
            InputError: a way without linears, or different numbers of tokens.
            MeasurementError: the process that measures failed.
        """
        ways = (tuple(a), tuple(b))
        tokens = {shape.tokens for way in ways for shape in way}
        if not all(ways) or len(tokens) > 1:
            raise InputError(
                f"cannot compare {len(ways[0])} with {len(ways[1])} linears at {sorted(tokens)} tokens; give each way "
                "at least one linear, and all the same number of tokens"
            )
        if ways not in self._ratios:
            shapes = tuple(dict.fromkeys((*a, *b)))
            first, second = (tuple(shapes.index(shape) for shape in way) for way in ways)
            question = Question(shapes, self.target, self.threads, self.precision, first, second)
            self._ratios[ways] = ratio_interval(self._measurer(question), second, first)
            self._write()
        return _decide(*ways, self._ratios[ways])

    def _read(self) -> None:
        """Take in what the file has; results of this process stay as they are."""
        entries = read_entries(self.path, self.stamp)
        self._costs = {**_usable(entries, "costs", _read_cost), **self._costs}
        self._ratios = {**_usable(entries, "ratios", _read_ratio), **self._ratios}

    def _write(self) -> None:
        """Keep what is known, but for what a busy machine left vague: a quieter hour settles it better."""
        self._read()  # another process may have added to the file meanwhile
        costs = [
            {"shape": shape_to_json(shape), **asdict(cost)}
            for shape, cost in self._costs.items()
            if cost.relative_half_width < KEPT_HALF_WIDTH
        ]
        ratios = [
            {"a": [shape_to_json(shape) for shape in a], "b": [shape_to_json(shape) for shape in b], **asdict(ratio)}
            for (a, b), ratio in self._ratios.items()
            if ratio.relative_half_width < KEPT_HALF_WIDTH
        ]
        try:
            write_entries(self.path, self.stamp, {"costs": costs, "ratios": ratios})
        except OutputError as error:
            # A machine without a writable cache folder measures again next time, and that is all.
            logging.getLogger(__name__).warning("cannot save measured costs: %s", error)


def _that_fit(shapes: Sequence[BlockShape]) -> Iterator[tuple[BlockShape, ...]]:
    """The shapes in their order, in parts whose sessions hold no more than `MOST_NUMBERS`; at least one a part."""
    part: list[BlockShape] = []
    held = 0
    for shape in shapes:
        if part and held + shape.numbers > MOST_NUMBERS:
            yield tuple(part)
            part, held = [], 0
        part.append(shape)
        held += shape.numbers
    if part:
        yield tuple(part)


def _cost(interval: Interval) -> Cost:
    median, low, high = (value / NANOSECONDS_PER_MS for value in (interval.median, interval.low, interval.high))
    return Cost(median, low, high, interval.rounds)


def _decide(a: Way, b: Way, ratio: Interval) -> Decision:
    names = [*map(_precision, (a, b))]
    if names[0] == names[1]:
        names = [*map(_name, (a, b))]
    if names[0] == names[1]:
        names = ["the first way", "the second way"]
    figures = f"{ratio.median:.2f} of the time ({ratio.low:.2f} to {ratio.high:.2f}) at {a[0].tokens} tokens"
    if ratio.high < 1.0:
        return Decision(ratio.median, ratio.low, ratio.high, ratio.rounds, "b", f"{names[1]}: {figures}")
    why = f"{names[0]}: {names[1]} takes {figures}"
    return Decision(ratio.median, ratio.low, ratio.high, ratio.rounds, "a", why)


def _name(way: Way) -> str:
    return "gathered" if any(shape.gathered for shape in way) else "zeros stay"


def _precision(way: Way) -> str:
    return " and ".join(sorted({shape.precision for shape in way}))


def _read_cost(entry: dict[str, Any]) -> BlockShape:
    return read_shape(entry["shape"])


def _read_ratio(entry: dict[str, Any]) -> tuple[Way, Way]:
    a, b = (tuple(map(_read_linear, entry[way])) for way in ("a", "b"))
    return a, b


def _read_linear(values: dict[str, Any]) -> LinearShape:
    shape = read_shape(values)
    if not isinstance(shape, LinearShape):
        raise TypeError(f"{values} is not a linear")
    return shape


def _usable(entries: Entries, kind: str, read: Callable[[dict[str, Any]], Value]) -> dict[Value, Interval]:
    """The entries of a kind that can be read; each other one is as good as missing."""
    found = {}
    for entry in entries.get(kind, []):
        try:
            key = read(entry)
            median, low, high = (float(entry[name]) for name in ("median", "low", "high"))
            interval = Interval(median, low, high, int(entry["rounds"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
        if all(math.isfinite(value) and value > 0 for value in (median, low, high)):
            found[key] = interval
    return found
