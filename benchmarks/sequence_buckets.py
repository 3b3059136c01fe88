"""What padding costs when texts of all lengths are predicted: in the order given, sorted, and padded to buckets.

Sentences of a TSV, with the lengths that people gave them, go through one bundle in every way; the ways take turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from pathlib import Path
from typing import Any, NamedTuple

from finegates_bench.measuring.stamp import make_stamp, stamp_line
from finegates_export import load
from finegates_export.common.files import write_json
from finegates_export.costs.timing.statistics import median_interval, ratio_interval
from finegates_export.costs.timing.timer import Budget, time_interleaved
from finegates_export.errors import FineGatesError
from finegates_export.runtime.batching import BATCHES_TOGETHER, Buckets, by_length, in_order
from finegates_export.runtime.bundle_files import read_bundle

ROUNDS = 5
NANOSECONDS = 1e9


class Way(NamedTuple):
    """How texts are put into calls."""

    name: str
    sort: bool
    buckets: int | None


WAYS = (
    Way("as given", sort=False, buckets=None),
    Way("sorted", sort=True, buckets=None),
    *(Way(f"sorted, multiples of {step}", sort=True, buckets=step) for step in (8, 16, 32)),
)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True, help="TSV with sentence and label")
    parser.add_argument("--out", type=Path, required=True, help="results, without suffix")
    parser.add_argument("--count", type=int, default=1000, help="sentences at most")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    try:
        result = measure(arguments)
    except (FineGatesError, ValueError) as error:
        sys.exit(str(error))
    write_json(arguments.out.with_suffix(".json"), result)
    arguments.out.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Predict the same sentences in every way."""
    lines = arguments.rows.read_text(encoding="utf-8").splitlines()[1 : arguments.count + 1]
    texts = [line.rsplit("\t", 1)[0] for line in lines]
    calls = {
        way.name: functools.partial(
            load(arguments.bundle, threads=arguments.threads, buckets=way.buckets).predict,
            texts,
            batch_size=arguments.batch_size,
            sort=way.sort,
        )
        for way in WAYS
    }
    times = time_interleaved(calls, Budget(ROUNDS, arguments.seconds, warmup=1))
    lengths, longest = lengths_of(texts, arguments.bundle)
    rows = []
    for way in WAYS:
        ratio = ratio_interval([times[way.name], times[WAYS[0].name]], [0], [1])
        rows.append(
            {"way": way.name, "rows_per_second": len(texts) * NANOSECONDS / median_interval(times[way.name]).median,
             "ratio": ratio.median, "low": ratio.low, "high": ratio.high, "rounds": ratio.rounds,
             **shapes_of(way, lengths, longest, arguments.batch_size)}
        )  # fmt: skip
    stamp = dataclasses.asdict(dataclasses.replace(make_stamp(arguments.threads), command="make bench-buckets"))
    facts = {"texts": len(texts), "tokens": sum(lengths), "batch_size": arguments.batch_size}
    return {"stamp": stamp, "bundle": arguments.bundle.name, **facts, "rows": rows}


def lengths_of(texts: list[str], bundle: Path) -> tuple[list[int], int]:
    """Tokens of each text as the bundle reads it, and how many those are at most."""
    from tokenizers import Tokenizer

    longest = read_bundle(bundle)["max_length"]
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    return [len(encoding.ids) for encoding in tokenizer.encode_batch(texts)], longest


def shapes_of(way: Way, lengths: list[int], longest: int, batch_size: int) -> dict[str, int]:
    """How many tokens are computed, padding included, and in how many shapes."""
    padded = [Buckets(way.buckets, longest).padded(length) for length in lengths]
    together = batch_size * BATCHES_TOGETHER
    shapes = []
    for start in range(0, len(padded), together):
        part = padded[start : start + together]
        batches = (by_length if way.sort else in_order)(part, batch_size)
        shapes += [(len(batch), max(part[row] for row in batch)) for batch in batches]
    return {"computed_tokens": sum(rows * length for rows, length in shapes), "shapes": len(set(shapes))}


def markdown(result: dict[str, Any]) -> str:
    """The page."""
    stamp = result["stamp"]
    lines = [
        "# Texts of all lengths: as they come, sorted, and padded to buckets",
        "",
        f"{result['texts']:,} sentences of {result['tokens']:,} tokens in all, through `{result['bundle']}`, "
        f"{result['batch_size']} rows a call, {stamp['threads']} threads. Medians of rounds that take turns.",
        "",
        "| way | rows a second | time over as given | 95 % interval | tokens computed | shapes | rounds |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['way']} | {row['rows_per_second']:.0f} | {row['ratio']:.3f} | {row['low']:.3f} to {row['high']:.3f} "
        f"| {row['computed_tokens']:,} | {row['shapes']} | {row['rounds']} |"
        for row in result["rows"]
    ]
    return "\n".join([*lines, "", stamp_line(stamp)]) + "\n"


if __name__ == "__main__":
    main()
