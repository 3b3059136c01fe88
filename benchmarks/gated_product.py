"""What a product over the open dims alone takes, against the whole product, by the share of closed gates.

The paper (figure 3) times (W^T w)(X w) against X W. Here the gates w are open or closed, so that the gated product is
the product over the open columns of X and the open rows of W. It is computed in three ways: both are selected in every
call; W was cut once, as by an export, and X comes cut; W was cut, and X is gathered in every call. Two runtimes,
several sizes, all ways and shares of a size taking turns in one fresh process.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finegates_bench.measuring.stamp import make_stamp, stamp_line
from finegates_export.common.files import write_json
from finegates_export.costs.timing.fresh_process import run_fresh
from finegates_export.costs.timing.statistics import median_interval, ratio_interval
from finegates_export.costs.timing.timer import Budget
from finegates_export.errors import FineGatesError
from product_plot import save_plot
from product_worker import COPIES, CUT, FULL, GATHERED, SELECTED, WAYS, ProductSpec, call_name

WORKER = Path(__file__).with_name("product_worker.py")
RUNTIMES = ("onnxruntime", "torch")
SIZES = "768x768,768x3072,384x1536"
TOKENS = "1024,32"
CLOSED = "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9"
OPSET = 20
NANOSECONDS_PER_MS = 1e6
MEANING = {
    SELECTED: "X and W selected in every call",
    CUT: "W cut before, X comes cut",
    GATHERED: "W cut before, X gathered in every call",
}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="results, without suffix")
    parser.add_argument("--sizes", default=SIZES, help="INPUTSxOUTPUTS of W, comma-separated")
    parser.add_argument("--tokens", default=TOKENS, help="rows of X, comma-separated")
    parser.add_argument("--closed", default=CLOSED, help="shares of closed input dims, comma-separated")
    parser.add_argument("--rounds", type=int, default=30, help="for each runtime, size and number of tokens, at least")
    parser.add_argument("--seconds", type=float, default=20.0, help="the same, at least")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    try:
        cells = list(measure(arguments))
    except (FineGatesError, ValueError) as error:
        sys.exit(str(error))
    command = shlex.join(["python", "benchmarks/gated_product.py", *sys.argv[1:]])
    stamp = dataclasses.replace(make_stamp(arguments.threads), command=command)
    result = {"stamp": dataclasses.asdict(stamp), "ways": MEANING, "cells": cells}
    write_json(arguments.out.with_suffix(".json"), result)
    arguments.out.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    save_plot(result, stamp, arguments.out)
    print(markdown(result))


def measure(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One cell for every runtime, size and number of tokens."""
    budget = Budget(arguments.rounds, arguments.seconds)
    shares = [float(share) for share in arguments.closed.split(",")]
    for size in arguments.sizes.split(","):
        inputs, outputs = map(int, size.split("x"))
        open_dims = tuple(round(inputs * (1.0 - share)) for share in shares)
        for tokens in map(int, arguments.tokens.split(",")):
            for runtime in RUNTIMES:
                spec = ProductSpec(runtime, tokens, inputs, outputs, open_dims, arguments.threads, budget, {})
                yield {"runtime": runtime, "size": size, "tokens": tokens, **time_cell(spec, shares)}


def time_cell(spec: ProductSpec, shares: list[float]) -> dict[str, Any]:
    """The whole product's milliseconds, and every way's time over it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if spec.runtime == "onnxruntime":
            spec = dataclasses.replace(spec, graphs=write_graphs(spec, folder))
        what = f"timed products of {spec.inputs} x {spec.outputs} in {spec.runtime}"
        times = run_fresh(WORKER, spec.to_json(), folder, what, "measure fewer tokens")
    rows = []
    for share, count in zip(shares, spec.open_dims, strict=True):
        for way in WAYS:
            ratio = ratio_interval([times[call_name(way, count)], times[FULL]], [0], [1])
            rows.append(
                {"way": way, "closed": share, "kept": count / spec.inputs, "ratio": ratio.median, "low": ratio.low,
                 "high": ratio.high}
            )  # fmt: skip
    whole = median_interval(times[FULL])
    return {"full_ms": whole.median / COPIES / NANOSECONDS_PER_MS, "rounds": whole.rounds, "rows": rows}


def write_graphs(spec: ProductSpec, folder: Path) -> dict[str, str]:
    """The graphs of all calls, by name; gathers are those that the exporter writes."""
    from finegates_export.costs.blocks.linear import linear_graph
    from finegates_export.costs.blocks.linear_shape import LinearShape

    whole = LinearShape(spec.tokens, spec.inputs, spec.outputs, bias=False)
    if whole.copies != COPIES:
        raise ValueError(f"sizes: {spec.inputs}x{spec.outputs} is too large to be held {COPIES} times")
    graphs = {FULL: linear_graph(whole, OPSET, 0)}
    for count in spec.open_dims:
        narrow = dataclasses.replace(whole, inputs=count)
        graphs[call_name(SELECTED, count)] = selecting_graph(whole)
        graphs[call_name(CUT, count)] = linear_graph(narrow, OPSET, 0)
        graphs[call_name(GATHERED, count)] = linear_graph(dataclasses.replace(narrow, read_from=spec.inputs), OPSET, 0)
    files = {name: folder / f"{name}.onnx" for name in graphs}
    for name, file in files.items():
        file.write_bytes(graphs[name])
    return {name: str(file) for name, file in files.items()}


def selecting_graph(shape: Any) -> bytes:
    """Products that select their operands by indices fed in, which no optimizer can do in advance."""
    import onnx_ir

    from finegates_export.costs.blocks.block_graph import BlockGraph

    graph = BlockGraph("selecting", OPSET, 0)
    x = graph.input("x", ["batch", "sequence", shape.inputs])
    for copy in range(shape.copies):
        name = f"product{copy}"
        chosen = onnx_ir.val(f"open{copy}", onnx_ir.DataType.INT64, ["open"])
        graph.graph.inputs.append(chosen)
        matrix = graph.weights(f"{name}.weight", shape.inputs, shape.outputs)
        operands = [graph.add("Gather", [x, chosen], f"{name}.x", axis=2),
                    graph.add("Gather", [matrix, chosen], f"{name}.w", axis=0)]  # fmt: skip
        graph.first_number(graph.add("MatMul", operands, name), f"{name}.first")
    return graph.to_bytes()


def markdown(result: dict[str, Any]) -> str:
    """A table for every size and number of tokens."""
    stamp = result["stamp"]
    lines = [
        "# The gated product against the whole one",
        "",
        "Time of the product over the open input dims, as a share of the whole product's time: medians of rounds in "
        f"which all take turns, 95 % intervals in the JSON file, {stamp['threads']} threads. "
        + "; ".join(f"{way}: {meaning}" for way, meaning in result["ways"].items())
        + ".",
    ]
    cells = result["cells"]
    for size, tokens in dict.fromkeys((cell["size"], cell["tokens"]) for cell in cells):
        lines += ["", f"## {size}, {tokens} tokens", ""]
        lines += table([cell for cell in cells if (cell["size"], cell["tokens"]) == (size, tokens)])
    return "\n".join([*lines, "", stamp_line(stamp)]) + "\n"


def table(cells: list[dict[str, Any]]) -> Iterator[str]:
    """One row a share of closed gates, all ways of all runtimes side by side."""
    whole = ", ".join(f"{cell['full_ms']:.3f} ms in {cell['runtime']} ({cell['rounds']} rounds)" for cell in cells)
    yield f"The whole product: {whole}."
    yield ""
    heads = [f"{cell['runtime']}, {way}" for cell in cells for way in WAYS]
    yield f"| closed | arithmetic | {' | '.join(heads)} |"
    yield "|---" * (2 + len(heads)) + "|"
    for first in range(0, len(cells[0]["rows"]), len(WAYS)):
        row = cells[0]["rows"][first]
        ratios = [f"{found['ratio']:.2f}" for cell in cells for found in cell["rows"][first : first + len(WAYS)]]
        yield f"| {row['closed']:.0%} | {row['kept']:.2f} | {' | '.join(ratios)} |"


if __name__ == "__main__":
    main()
