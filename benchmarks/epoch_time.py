"""Time of one validation epoch over removed shares: all rows of a file through exported models.

Rows are sorted by length and padded batch by batch, as validation does it. Models are closed by weight magnitude
without training, which gives their time and not their predictions; they take turns in a fresh process with onnxruntime,
an epoch each. Without rows of one's own, lengths are drawn like those of sentences.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bert_base import MAX_LENGTH, write_open_run
from epoch_worker import EpochSpec
from finegates_bench.measuring.stamp import make_stamp, stamp_line
from finegates_bench.reports.plot_style import PALETTE, PANEL_INCHES, add_margin, save_figure, styled
from finegates_export.common.files import write_json
from finegates_export.costs.timing.fresh_process import run_fresh
from finegates_export.costs.timing.statistics import median_interval, ratio_interval
from finegates_export.costs.timing.timer import Budget
from finegates_export.errors import FineGatesError, InputError

if TYPE_CHECKING:
    from finegates_bench.measuring.results import Stamp
    from finegates_export.pruning.plan import ShrinkPlan
    from finegates_export.sources.base import BaseModel

WORKER = Path(__file__).with_name("epoch_worker.py")
BATCH_SIZE = 32
SHARES = "0,0.2,0.4,0.6,0.8"
NANOSECONDS_PER_SECOND = 1e9
DRAWN_ROWS = 1000
MEDIAN_TOKENS, SPREAD, FEWEST_TOKENS = 22, 0.5, 4
"""Of drawn rows: lengths are log-normal around the median, as sentences' are, special tokens included."""

Ids = npt.NDArray[np.int64]
"""Of one row, shape (tokens,)."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", required=True, help="base model, a folder or an id on the hub")
    parser.add_argument("--data", help="rows (TSV); drawn where none are given")
    parser.add_argument("--out", type=Path, required=True, help="results, without suffix")
    parser.add_argument("--removed", default=SHARES, help="removed shares, comma-separated; 0 comes first")
    parser.add_argument("--rows", type=int, default=DRAWN_ROWS, help="how many rows to draw")
    parser.add_argument("--rounds", type=int, default=7, help="epochs of every model")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    try:
        result = measure(arguments)
    except (FineGatesError, ValueError) as error:
        sys.exit(str(error))
    command = shlex.join(["python", "benchmarks/epoch_time.py", *sys.argv[1:]])
    stamp = dataclasses.replace(make_stamp(arguments.threads), command=command)
    result = {"stamp": dataclasses.asdict(stamp), **result}
    write_json(arguments.out.with_suffix(".json"), result)
    arguments.out.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    save_plot(result, stamp, arguments.out)
    print(markdown(result))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write, export and time everything."""
    from finegates_export.sources.base import find_base

    shares = [float(share) for share in arguments.removed.split(",")]
    if shares[0] != 0.0:
        raise InputError(f"--removed {arguments.removed} does not start with 0, the unpruned model; begin with it")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        base = find_base(arguments.base)
        longest = min(MAX_LENGTH, base.family().max_length(base.config()))
        texts = read_texts(base, arguments.data, longest) if arguments.data else draw_texts(arguments.rows, longest)
        texts.sort(key=len)
        lengths = np.array([len(text) for text in texts])
        np.savez(folder / "rows.npz", ids=np.concatenate(texts), lengths=lengths)
        plans = export_levels(arguments.base, shares, folder, arguments.threads)
        spec = EpochSpec(
            {name: str(folder / f"{name}.onnx") for name in plans}, str(folder / "rows.npz"), BATCH_SIZE,
            arguments.threads, Budget(arguments.rounds, 0.0, 1),
        )  # fmt: skip
        times = run_fresh(WORKER, spec.to_json(), folder, f"timed {len(plans)} models", "measure fewer rows")
    return {
        "base": Path(arguments.base).name,
        "data": Path(arguments.data).name if arguments.data else None,
        "rows": len(lengths),
        "tokens": int(lengths.sum()),
        "padded_tokens": sum(batch * longest for batch, longest in batch_shapes(lengths)),
        "median_tokens": float(np.median(lengths)),
        "batch_size": BATCH_SIZE,
        "rounds": arguments.rounds,
        "models": rows_of(plans, times, lengths),
    }


def read_texts(base: BaseModel, data: str, longest: int) -> list[Ids]:
    """The token ids of every row of a file, at most so many a row."""
    from finegates_trainer.data import DataSource, read_data

    rows = read_data(DataSource(data=data, eval_data=data)).evaluation
    encoded = base.tokenizer()(rows.texts, rows.pairs, truncation=True, max_length=longest)["input_ids"]
    return [np.array(ids, np.int64) for ids in encoded]


def draw_texts(count: int, longest: int) -> list[Ids]:
    """Random rows as long as sentences; ids do not matter to time, so that all are 1."""
    lengths = np.random.default_rng(0).lognormal(math.log(MEDIAN_TOKENS), SPREAD, count)
    return [np.ones(length, np.int64) for length in np.clip(lengths.round().astype(int), FEWEST_TOKENS, longest)]


def export_levels(base_id: str, shares: list[float], folder: Path, threads: int) -> dict[str, ShrinkPlan]:
    """A graph in the folder for every share; their plans, by the graphs' names."""
    from finegates_bench.measuring.what_if import WhatIf
    from finegates_export import ExportOptions, export
    from finegates_export.graphs.targets import ort_cpu
    from finegates_export.sources.assemble import base_of
    from finegates_export.sources.run_folder import read_run
    from finegates_export.sources.shared_base import SharedBase

    write_open_run(folder / "run", Path(base_id))
    run = read_run(folder / "run")
    base = SharedBase.of(base_of(run))
    closer = WhatIf(run, base, ort_cpu.WIDTHS)
    plans = {}
    for share in shares:
        name = f"{share:g}"
        closer.write(share, folder / f"run-{name}")
        graph = folder / f"{name}.onnx"
        plans[name] = export(ExportOptions(ckpt=folder / f"run-{name}", out=graph, threads=threads), base).plan
    return plans


def batch_shapes(lengths: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Rows and tokens of every batch of rows that ascend by length."""
    parts = np.split(lengths, range(BATCH_SIZE, len(lengths), BATCH_SIZE))
    return [(len(part), int(part[-1])) for part in parts]


def rows_of(
    plans: dict[str, ShrinkPlan], times: dict[str, list[int]], lengths: npt.NDArray[np.int64]
) -> list[dict[str, Any]]:
    """A line for every model; the first is the unpruned one."""
    unpruned = next(iter(plans))
    flops = {name: sum(plan.flops(*shape) for shape in batch_shapes(lengths)) for name, plan in plans.items()}
    rows = []
    for name, plan in plans.items():
        seconds = median_interval(times[name]).median / NANOSECONDS_PER_SECOND
        ratio = ratio_interval([times[name], times[unpruned]], [0], [1])
        rows.append(
            {
                "asked": float(name),
                "removed": plan.removed,
                "seconds": seconds,
                "rows_per_second": len(lengths) / seconds,
                "ratio": ratio.median,
                "low": ratio.low,
                "high": ratio.high,
                "kept_flops": flops[name] / flops[unpruned],
            }
        )
    return rows


def markdown(result: dict[str, Any]) -> str:
    """The page."""
    stamp = result["stamp"]
    source = f"`{result['data']}`" if result["data"] else "drawn at random with lengths like sentences'"
    lines = [
        f"# One validation epoch of {result['base']}",
        "",
        f"{result['rows']:,} rows, {source}: {result['tokens']:,} tokens, the median row has "
        f"{result['median_tokens']:.0f}; sorted by length, batches of {result['batch_size']} padded to their longest "
        f"row, {result['padded_tokens']:,} tokens with padding. Models closed by weight magnitude, not trained, "
        f"exported, onnxruntime, {stamp['threads']} threads; medians of {result['rounds']} epochs each, taking turns "
        "in a fresh process.",
        "",
        "| removed | epoch, s | rows/s | time over unpruned | 95 % interval | kept FLOPs | time / kept |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['removed']:.1%} | {row['seconds']:.3f} | {row['rows_per_second']:,.0f} | {row['ratio']:.3f} "
        f"| {row['low']:.3f} to {row['high']:.3f} | {row['kept_flops']:.3f} | {row['ratio'] / row['kept_flops']:.2f} |"
        for row in result["models"]
    ]
    return "\n".join([*lines, "", stamp_line(stamp)]) + "\n"


def save_plot(result: dict[str, Any], stamp: Stamp, stem: Path) -> None:
    """Write `<stem>.png` and `<stem>.svg`: ratio and kept FLOPs over the removed share."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    models = result["models"]
    removed = [row["removed"] for row in models]
    with styled():
        figure = Figure(figsize=(1.3 * PANEL_INCHES[0], 1.2 * PANEL_INCHES[1]), layout="constrained")
        axes = figure.subplots()
        axes.plot(
            removed, [row["kept_flops"] for row in models], linestyle=(0, (4, 3)), linewidth=1.2,
            color=PALETTE["muted"], label="kept FLOPs", zorder=2,
        )  # fmt: skip
        axes.plot(
            removed, [row["ratio"] for row in models], linewidth=1.2, color=PALETTE["float32"], marker="o",
            markersize=5, markerfacecolor=PALETTE["paper"], markeredgewidth=1.5, label="an epoch, not trained",
        )  # fmt: skip
        axes.vlines(removed, [row["low"] for row in models], [row["high"] for row in models], color=PALETTE["float32"])
        axes.set_ylim(0, 1.08 * max(1.0, *(row["high"] for row in models)))
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("removed share of the layers' linear weights")
        axes.set_ylabel("epoch / unpruned")
        axes.set_title(f"One validation epoch, {result['rows']:,} rows")
        axes.legend(loc="lower left")
        add_margin(figure, [("base", result["base"]), *stamp.lines()])
        save_figure(figure, stem)


if __name__ == "__main__":
    main()
