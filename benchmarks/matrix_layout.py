"""The paper's layout on a random-weight BERT of 12 x 768: what closed rows and columns are worth in time.

Rows and columns of every linear are closed independently at random, as the matrix layout closes them. Three exports
are timed against the unpruned model, side by side: closed residual dims left as zeros, all of them gathered, and what
the cost table of the machine decides.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from bert_base import write_base, write_open_run
from finegates_export.common.files import staged_folder, write_json
from finegates_export.common.stamp import versions
from finegates_export.errors import FineGatesError

CLOSED = 0.225
GATHERS = ("never", "always", "auto")
VOCABULARY = 30522


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="where base, runs and graphs go")
    parser.add_argument("--out", type=Path, required=True, help="results, without suffix")
    parser.add_argument("--shapes", default="1x32,1x128,8x128,16x64")
    parser.add_argument("--seconds", type=float, default=30.0, help="per shape")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    try:
        result = measure(arguments.work, arguments.shapes.split(","), arguments.seconds, arguments.threads)
    except (FineGatesError, ValueError) as error:
        sys.exit(str(error))
    write_json(arguments.out.with_suffix(".json"), result)
    arguments.out.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


def measure(work: Path, shapes: list[str], seconds: float, threads: int) -> dict[str, Any]:
    """Write, export and time everything."""
    from finegates_export import ExportOptions, export

    base, open_run, run = work / "base", work / "open", work / "run"
    if not base.exists():
        write_base(base)
        write_open_run(open_run, base)
        close_rows_and_columns(open_run, run)
    options = {"threads": threads, "overwrite": True}
    reports = {"unpruned": export(ExportOptions(ckpt=open_run, out=work / "unpruned.onnx", **options))}
    for gathers in GATHERS:
        out = work / f"{gathers}.onnx"
        reports[gathers] = export(ExportOptions(ckpt=run, out=out, gathers=gathers, **options))
    graphs = {name: work / f"{name}.onnx" for name in reports}
    timings = [timing for shape in shapes for timing in time_shape(graphs, reports, shape, seconds, threads)]
    return {
        "closed": CLOSED,
        "threads": threads,
        "versions": versions(),
        "models": {name: facts(report) for name, report in reports.items()},
        "timings": timings,
        "why": {name: sorted({side.why for side in report.plan.residual}) for name, report in reports.items()},
    }


def close_rows_and_columns(open_run: Path, folder: Path) -> None:
    """A run of the matrix layout with `CLOSED` of every gate vector closed, independently of each other."""
    import torch

    from finegates_export.gates.bank import GateBank
    from finegates_export.gates.layout import build_layout
    from finegates_export.sources.assemble import base_of
    from finegates_export.sources.run_folder import read_run, write_run

    whole = read_run(open_run)
    base = base_of(whole)
    structure = base.family().structure(base.config())
    bank = GateBank(build_layout("matrix", structure), structure)
    generator = np.random.default_rng(0)
    vectors = {}
    for name, mu in bank.vectors().items():
        values = np.full(len(mu), 0.5, np.float32)
        values[generator.permutation(len(mu))[: round(len(mu) * CLOSED)]] = -1.0
        vectors[name] = torch.from_numpy(values)
    bank.load_vectors(vectors)
    info = dataclasses.replace(whole.info, layout="matrix", removed=bank.closed_share(), files={})
    with staged_folder(folder, overwrite=True) as stage:
        base.tokenizer().save_pretrained(stage)
        write_run(stage, info, gates=vectors, head=whole.head, samples=None)


def time_shape(
    graphs: dict[str, Path], reports: dict[str, Any], shape: str, seconds: float, threads: int
) -> Iterable[dict[str, Any]]:
    """All graphs at one shape, interleaved in a fresh process."""
    from finegates_bench.measuring.latency import make_timing, summarize
    from finegates_export.common.shapes import Shape
    from finegates_export.costs.timing.model_times import time_models
    from finegates_export.costs.timing.model_worker import ModelSpec
    from finegates_export.costs.timing.timer import Budget

    parsed = Shape.parse(shape)
    with tempfile.TemporaryDirectory() as scratch:
        spec = ModelSpec(
            graphs={name: str(graph) for name, graph in graphs.items()}, batch=parsed.batch, sequence=parsed.sequence,
            vocab_size=VOCABULARY, threads=threads, seed=0, budget=Budget(20, seconds),
        )  # fmt: skip
        times = time_models(spec, Path(scratch))
    for name, report in reports.items():
        timing = make_timing(summarize([times[name]], [times["unpruned"]]), report.plan, parsed)
        yield {"model": name, **dataclasses.asdict(timing)}


def facts(report: Any) -> dict[str, Any]:
    """What the report says of one export."""
    gathered = [side for side in report.plan.residual if side.gathered]
    return {
        "removed": report.plan.removed,
        "gathers": len(gathered),
        "of": len(report.plan.residual),
        "largest_difference": max(link.relative for link in report.links),
    }


def markdown(result: dict[str, Any]) -> str:
    """The tables."""
    lines = [
        "# The matrix layout: 12 x 768, random weights",
        "",
        f"{result['closed']:.1%} of the rows and of the columns of every linear closed at random, each by itself; "
        f"{result['threads']} threads; medians of interleaved rounds in a fresh process, 95 % intervals. "
        "`make bench-matrix` writes this page.",
        "",
        "| closed residual dims | shape | ms | time over unpruned | kept FLOPs | linear weights removed | gathers |",
        "|---|---|---|---|---|---|---|",
    ]
    for timing in result["timings"]:
        model = result["models"][timing["model"]]
        ratio = f"{timing['ratio']:.3f} ({timing['ratio_low']:.3f} to {timing['ratio_high']:.3f})"
        lines.append(
            f"| {timing['model']} | {timing['shape']} | {timing['p50_ms']:.1f} | {ratio} | {timing['kept_flops']:.3f} "
            f"| {model['removed']:.1%} | {model['gathers']} of {model['of']} |"
        )
    lines += ["", "What the cost table said (`auto`):", ""]
    lines += [f"- {why}" for why in result["why"]["auto"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
