"""A benchmark report in minutes, from nothing: a small random BERT, closed to several shares without training.

It shows what a report looks like and whether a machine measures; a model of 4 x 256 says little about larger ones.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bert_base import write_base, write_open_run
from finegates_export.errors import FineGatesError

SIZES = {
    "num_hidden_layers": 4,
    "hidden_size": 256,
    "num_attention_heads": 8,
    "intermediate_size": 1024,
    "vocab_size": 2000,
}
SHARES = (0.2, 0.4, 0.6)
SHAPES = ("1x32", "8x128")
SECONDS = 3.0
"""Per shape, at least."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as work:
            write_base(Path(work) / "base", **SIZES)
            write_open_run(Path(work) / "run", Path(work) / "base")
            bench(Path(work) / "run", arguments.out, arguments.threads)
    except (FineGatesError, ValueError) as error:
        sys.exit(str(error))
    print(f"open {arguments.out / 'index.html'}")


def bench(run: Path, out: Path, threads: int) -> None:
    """Measure the shares as what-if levels, float32 and int8, and write the report."""
    from finegates_bench import BenchOptions, measure, report

    options = BenchOptions(
        ckpt=run, out=out, what_if=SHARES, shapes=SHAPES, seconds=SECONDS, int8=True, threads=threads, overwrite=True
    )
    report(measure(options, print), out, overwrite=True)


if __name__ == "__main__":
    main()
