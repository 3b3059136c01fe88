"""What `predict` takes of memory for long texts: the growth of the peak, each time in a fresh process.

The model is small and random: the memory is the tokenizer's, which reads as much of a text as a row needs.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path

from bert_base import write_base, write_open_run
from finegates_bench.measuring.stamp import make_stamp, stamp_line
from finegates_export import ExportOptions, export
from finegates_export.common.files import write_json
from finegates_export.costs.timing.fresh_process import run_fresh
from finegates_export.errors import FineGatesError
from quick import SIZES

WORKER = Path(__file__).with_name("long_texts_worker.py")
KINDS = ("one text", "100 texts", "2,000 texts", "one pair", "one word")
CHARACTERS = 10_000_000
MIB = 1 << 20


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="results, without suffix")
    parser.add_argument("--characters", type=int, default=CHARACTERS, help="in all")
    arguments = parser.parse_args()
    try:
        found = measure(arguments.characters)
    except (FineGatesError, ValueError) as error:
        sys.exit(str(error))
    stamp = dataclasses.asdict(dataclasses.replace(make_stamp(1), command="make bench-long-texts"))
    result = {"stamp": stamp, "characters": arguments.characters, "more": found}
    write_json(arguments.out.with_suffix(".json"), result)
    text = markdown(found, arguments.characters, stamp_line(stamp))
    arguments.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


def measure(characters: int) -> dict[str, int]:
    """Bytes by which the peak of the resident memory grew, by kind of text."""
    with tempfile.TemporaryDirectory() as work:
        base, run, bundle = (Path(work) / name for name in ("base", "run", "bundle"))
        write_base(base, **SIZES)
        write_open_run(run, base)
        export(ExportOptions(ckpt=run, out=bundle, threads=1))
        found = {}
        for kind in KINDS:
            spec = {"kind": kind, "characters": characters, "bundle": str(bundle)}
            result = run_fresh(WORKER, spec, Path(work), f"read {kind}", "give fewer --characters")
            found[kind] = result["more"]
    return found


def markdown(found: dict[str, int], characters: int, stamp: str) -> str:
    """The results as a page."""
    rows = "\n".join(f"| {kind} | {more / MIB:.0f} |" for kind, more in found.items())
    return f"""# Memory of long texts

{stamp}

`predict` on {characters:,} characters, of which a row reads the first tokens. Before it, full rows were predicted.
One word cannot be parted, and is tokenized whole.

| text | MiB more at the peak |
|---|---|
{rows}
"""


if __name__ == "__main__":
    main()
