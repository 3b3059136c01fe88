"""The cost table: the real cost of linears and sublayers on this machine, measured once and stored.

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
from typing import Literal, TypeVar

from finegates_export.costs.blocks.block_shape import BlockShape
from finegates_export.costs.blocks.block_shapes import read_shape, shape_to_json
from finegates_export.costs.blocks.linear_shape import LinearShape
from finegates_export.costs.cost_file import (
    Entries,
    Entry,
    check_file,
    cost_path,
    make_stamp,
    read_entries,
    write_entries,
)
from finegates_export.costs.timing.block_times import Measurer, Precision, Question, measure_blocks
from finegates_export.costs.timing.statistics import Interval, median_interval, ratio_interval
from finegates_export.errors import InputError, OutputError

NANOSECONDS_PER_MS = 1e6
DEFAULT_PRECISION = Precision()
KEPT_HALF_WIDTH = 0.05
"""Results with a wider interval, as a share of the median, are used in this process but not stored."""

MOST_NUMBERS = 1 << 30
"""Maximum float32 numbers in the sessions of one process: 4 GiB."""

Way = tuple[LinearShape, ...]
Value = TypeVar("Value")
ShapeT = TypeVar("ShapeT", bound=BlockShape)


@dataclass(frozen=True)
class Cost:
    """The time of one block in milliseconds: the median over rounds with its 95 % interval."""

    median: float
    low: float
    high: float
    rounds: int


@dataclass(frozen=True)
class Decision:
    """The faster of two ways."""

    ratio: float
    """Time of the second way divided by that of the first: the median over rounds that ran both."""
    low: float
    """From here ..."""
    high: float
    """... to here lie 95 % of the medians that the bootstrap draws."""
    rounds: int
    chosen: Literal["a", "b"]
    """`b` only if the whole interval is below 1."""
    why: str


class CostTable:
    """Costs by shape, and decisions by pairs of ways; missing ones are measured and stored.

    Args:
        threads: CPU threads.
        target: whose graphs are measured.
        precision: when a measurement may stop.
        measurer: answers a question; a fresh process by default.
        path: the file that stores results; default: this machine's, in the user's cache folder.

    Raises:
        InputError: `path` exists but does not hold costs of this machine, target and thread count.
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
        """Identifies the machine and setup; see `cost_file.make_stamp`."""
        self.path = path or cost_path(self.stamp)
        """The file that stores results."""
        if path is not None and path.exists():
            check_file(path, self.stamp)
        self._costs: dict[BlockShape, Interval] = {}
        self._ratios: dict[tuple[Way, Way], Interval] = {}
        self._read()

    def milliseconds(self, shapes: Sequence[ShapeT]) -> dict[ShapeT, Cost]:
        """The costs of blocks; unknown ones are measured together, as many as fit in memory.

        Raises:
            MeasurementError: the measuring process failed.
        """
        missing = [shape for shape in dict.fromkeys(shapes) if shape not in self._costs]
        for together in _that_fit(missing):
            times = self._measurer(Question(together, self.target, self.threads, self.precision))
            self._costs.update(zip(together, map(median_interval, times), strict=True))
            self._write()
        return {shape: _cost(self._costs[shape]) for shape in shapes}

    def known(self) -> dict[BlockShape, Cost]:
        """The known costs, in the order of the file."""
        return {shape: _cost(interval) for shape, interval in self._costs.items()}

    def known_ratios(self) -> dict[tuple[Way, Way], Interval]:
        """The known comparisons: time of the second way divided by that of the first."""
        return dict(self._ratios)

    def cheaper(self, a: Sequence[LinearShape], b: Sequence[LinearShape]) -> Decision:
        """Compare two ways to compute the same, in turns of one run.

        Args:
            a: the linears of the way to choose if in doubt.
            b: the linears of the other way.

        Raises:
            InputError: a way without linears, or different numbers of tokens.
            MeasurementError: the measuring process failed.
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
        """Merge the file's entries; results of this process take precedence."""
        entries = read_entries(self.path, self.stamp)
        self._costs = {**_usable(entries, "costs", _read_cost), **self._costs}
        self._ratios = {**_usable(entries, "ratios", _read_ratio), **self._ratios}

    def _write(self) -> None:
        """Store what is known, except imprecise results of a busy machine, which a quieter time measures better."""
        self._read()  # another process may have added to the file in the meantime
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
            # Without a writable cache folder, the next run just measures again.
            logging.getLogger(__name__).warning("cannot save measured costs: %s", error)


def _that_fit(shapes: Sequence[BlockShape]) -> Iterator[tuple[BlockShape, ...]]:
    """The shapes in order, in parts whose sessions hold at most `MOST_NUMBERS`; at least one per part."""
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


def _read_cost(entry: Entry) -> BlockShape:
    return read_shape(entry["shape"])


def _read_ratio(entry: Entry) -> tuple[Way, Way]:
    a, b = (tuple(map(_read_linear, entry[way])) for way in ("a", "b"))
    return a, b


def _read_linear(values: Entry) -> LinearShape:
    shape = read_shape(values)
    if not isinstance(shape, LinearShape):
        raise TypeError(f"{values} is not a linear")
    return shape


def _usable(entries: Entries, kind: str, read: Callable[[Entry], Value]) -> dict[Value, Interval]:
    """The readable entries of a kind; others count as missing."""
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
