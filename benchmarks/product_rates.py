"""How fast the big products of pruned models run, against the fastest products that this machine has been seen to run.

    python benchmarks/product_rates.py --run FOLDER [--run FOLDER] --out RESULTS

Each run's plan says which matrices are left. They, and square ones to find the machine's best, are timed side by side
in a fresh process with nothing but onnxruntime; torch multiplies the square ones in another process.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finegates_bench.measuring.stamp import make_stamp, stamp_line
from finegates_export.common.files import write_json
from finegates_export.common.shapes import Shape
from finegates_export.errors import FineGatesError

SQUARES = (512, 768, 1024, 1536, 2048, 3072)
"""Inputs and outputs of the products that stand for the machine."""
BIG = 1 << 27
"""Multiplications and additions from which on a product counts as big."""
TORCH_FLAG = "--torch"
TORCH_ROUNDS = 40


@dataclass(frozen=True)
class Product:
    """Rows times a matrix."""

    tokens: int
    inputs: int
    outputs: int

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.tokens * self.inputs * self.outputs

    def __str__(self) -> str:
        return f"{self.inputs} x {self.outputs}"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, action="append", default=[], help="a run folder, or a level of one")
    parser.add_argument("--out", type=Path, help="results, without suffix")
    parser.add_argument("--shape", type=Shape.parse, default=Shape(8, 128))
    parser.add_argument("--seconds", type=float, default=60.0, help="for all products together")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(TORCH_FLAG, action="store_true", help="only multiply with torch, and print GFLOP/s as JSON")
    arguments = parser.parse_args()
    tokens = arguments.shape.batch * arguments.shape.sequence
    if arguments.torch:
        print(json.dumps(torch_rates(tokens, arguments.threads)))
        return
    if not arguments.run or arguments.out is None:
        parser.error("--run and --out are needed")
    try:
        result = measure(arguments.run, arguments.shape, arguments.seconds, arguments.threads)
    except (FineGatesError, ValueError) as error:
        sys.exit(str(error))
    write_json(arguments.out.with_suffix(".json"), result)
    arguments.out.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


def measure(runs: list[Path], shape: Shape, seconds: float, threads: int) -> dict[str, Any]:
    """GFLOP/s of every distinct product, and of the machine's best."""
    from finegates_export.costs.blocks.linear_shape import LinearShape
    from finegates_export.costs.timing.block_times import Precision, Question, measure_blocks

    tokens = shape.batch * shape.sequence
    squares = [Product(tokens, size, size) for size in SQUARES]
    left = {str(run): list(dict.fromkeys(products(run, tokens))) for run in runs}
    every = list(dict.fromkeys([*squares, *(one for found in left.values() for one in found if one.flops >= BIG)]))
    shapes = tuple(LinearShape(one.tokens, one.inputs, one.outputs, bias=False) for one in every)
    times = measure_blocks(Question(shapes, "ort-cpu", threads, Precision(0.01, seconds)))
    rates = {one: one.flops / float(np.median(rounds)) for one, rounds in zip(every, times, strict=True)}
    command = [sys.executable, __file__, TORCH_FLAG, "--shape", str(shape), "--threads", str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    with_torch = dict(json.loads(done.stdout.splitlines()[-1]))
    best = max(*(rates[one] for one in squares), *with_torch.values())
    return {
        "stamp": dataclasses.asdict(dataclasses.replace(make_stamp(threads), command="make bench-rates")),
        "shape": str(shape),
        "best_gflop_per_second": best,
        "squares": [
            {"size": one.inputs, "onnxruntime": rates[one], "torch": with_torch[str(one.inputs)]} for one in squares
        ],
        "products": [
            {"run": name, "product": str(one), "gflop_per_second": rates[one], "share_of_best": rates[one] / best}
            for name, found in left.items()
            for one in found
            if one in rates
        ],
        "rounds": len(times[0]),
    }


def products(run: Path, tokens: int) -> Iterator[Product]:
    """The products of a run's exported model, layer by layer, as separate matrices."""
    from finegates_export import ExportOptions, export

    plan = export(ExportOptions(ckpt=run, plan_only=True)).plan
    hidden = plan.residual_width
    for layer in plan.layers:
        heads, neurons = len(layer.attention.heads), len(layer.feed_forward.neurons)
        if heads:
            yield Product(tokens, hidden, heads * layer.attention.qk_width)
            yield Product(tokens, hidden, heads * layer.attention.vo_width)
            yield Product(tokens, heads * layer.attention.vo_width, hidden)
        if neurons:
            yield Product(tokens, hidden, neurons)
            yield Product(tokens, neurons, hidden)


def torch_rates(tokens: int, threads: int) -> dict[str, float]:
    """GFLOP/s of torch's products with square matrices, by their size."""
    import torch

    from finegates_export.costs.timing.timer import Budget, time_interleaved

    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    pairs = {
        size: (torch.randn(tokens, size, generator=generator), torch.randn(size, size, generator=generator))
        for size in SQUARES
    }
    calls = {str(size): (lambda x=x, matrix=matrix: x @ matrix) for size, (x, matrix) in pairs.items()}
    times = time_interleaved(calls, Budget(TORCH_ROUNDS, 0.0))
    return {name: 2 * tokens * int(name) ** 2 / float(np.median(rounds)) for name, rounds in times.items()}


def markdown(result: dict[str, Any]) -> str:
    """The page."""
    stamp = result["stamp"]
    lines = [
        "# The big products against the machine's best",
        "",
        f"Products of {result['shape']} tokens (batch x sequence) in float32, {stamp['threads']} threads, medians of "
        f"{result['rounds']} rounds in which all take turns. The best that this machine was seen to run: "
        f"**{result['best_gflop_per_second']:.0f} GFLOP/s**.",
        "",
        "| square matrix | onnxruntime, GFLOP/s | torch, GFLOP/s |",
        "|---|---|---|",
    ]
    lines += [f"| {row['size']} | {row['onnxruntime']:.0f} | {row['torch']:.0f} |" for row in result["squares"]]
    lines += ["", "| run | matrix | GFLOP/s | of the best |", "|---|---|---|---|"]
    lines += [
        f"| {Path(row['run']).name} | {row['product']} | {row['gflop_per_second']:.0f} | {row['share_of_best']:.0%} |"
        for row in result["products"]
    ]
    return "\n".join([*lines, "", stamp_line(stamp)]) + "\n"


if __name__ == "__main__":
    main()
