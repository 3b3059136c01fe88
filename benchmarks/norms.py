"""What a residual sum and its norm cost as one operator of onnxruntime, and as two: whole unpruned models, both ways.

Two random-weight BERTs, of 6 x 384 and of 12 x 768. Both graphs of a model take turns in one fresh process.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Any

from bert_base import LABELS, SIZES, write_base
from finegates_bench.measuring.stamp import make_stamp, stamp_line
from finegates_export.common.files import write_json
from finegates_export.common.shapes import Shape
from finegates_export.errors import FineGatesError

SHAPES = ("1x32", "1x128", "8x128")
ROUNDS = 20
FUSED, APART = "fused", "apart"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="results, without suffix")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each model and shape")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            rows = [
                row
                for name, sizes in SIZES.items()
                for row in compare(name, sizes, Path(scratch), arguments.seconds, arguments.threads)
            ]
    except (FineGatesError, ValueError) as error:
        sys.exit(str(error))
    stamp = dataclasses.asdict(dataclasses.replace(make_stamp(arguments.threads), command="make bench-norms"))
    result = {"stamp": stamp, "rows": rows}
    write_json(arguments.out.with_suffix(".json"), result)
    arguments.out.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


def compare(name: str, sizes: dict[str, int], scratch: Path, seconds: float, threads: int) -> list[dict[str, Any]]:
    """Write a model both ways and time it at every shape."""
    from finegates_export.costs.timing.model_times import time_models
    from finegates_export.costs.timing.model_worker import ModelSpec
    from finegates_export.costs.timing.statistics import median_interval, ratio_interval
    from finegates_export.costs.timing.timer import Budget

    graphs, vocabulary = write_both(sizes, scratch / name)
    rows = []
    for text in SHAPES:
        shape = Shape.parse(text)
        spec = ModelSpec(
            {way: str(path) for way, path in graphs.items()}, shape.batch, shape.sequence, vocabulary, threads, 0,
            Budget(ROUNDS, seconds), reference=FUSED,
        )  # fmt: skip
        times = time_models(spec, scratch)
        ratio = ratio_interval([times[APART], times[FUSED]], [0], [1])
        milliseconds = {way: median_interval(rounds).median / 1e6 for way, rounds in times.items()}
        rows.append(
            {"model": name, "shape": text, **milliseconds, "ratio": ratio.median, "low": ratio.low, "high": ratio.high,
             "rounds": ratio.rounds}
        )  # fmt: skip
    return rows


def write_both(sizes: dict[str, int], folder: Path) -> tuple[dict[str, Path], int]:
    """The graph as an export delivers it, the same with fused norms, and the size of its vocabulary."""
    from finegates_export.common.tasks import LOGITS
    from finegates_export.graphs.passes.fuse import FuseForOrt
    from finegates_export.graphs.passes.graph_pass import run_passes
    from finegates_export.graphs.passes.split_norms import SplitSkipNorms
    from finegates_export.graphs.passes.unpack_attention import UnpackAttention
    from finegates_export.graphs.saving import keep_outputs, save_graph
    from finegates_export.graphs.trace import write_graph
    from finegates_export.sources.base import find_base

    write_base(folder / "base", **sizes)
    base = find_base(str(folder / "base"))
    model, family, config = base.load("classification", LABELS), base.family(), base.config()
    plain = write_graph(model, family.encoder(model), family.input_names(config), 20)
    expected = family.expected_fusions(config, config.num_hidden_layers, config.num_hidden_layers)
    graph = run_passes(plain, [FuseForOrt(expected), UnpackAttention()])
    graph = keep_outputs(graph, (LOGITS,))
    paths = {way: folder / f"{way}.onnx" for way in (FUSED, APART)}
    save_graph(graph, paths[FUSED])
    run_passes(graph, [SplitSkipNorms()])
    save_graph(graph, paths[APART])
    return paths, config.vocab_size


def markdown(result: dict[str, Any]) -> str:
    """The page."""
    lines = [
        "# A residual sum and its norm: one operator, or two",
        "",
        f"Unpruned random-weight BERTs on onnxruntime's CPU kernels, {result['stamp']['threads']} threads: a residual "
        "sum and its norm as SkipLayerNormalization, and as Add, Add and LayerNormalization, as exports for "
        "`ort-cpu` have. Medians of rounds that take turns.",
        "",
        "| model | batch x sequence | fused, ms | apart, ms | apart over fused | 95 % interval | rounds |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['model']} | {row['shape']} | {row[FUSED]:.2f} | {row[APART]:.2f} | {row['ratio']:.3f} "
        f"| {row['low']:.3f} to {row['high']:.3f} | {row['rounds']} |"
        for row in result["rows"]
    ]
    stamp = result["stamp"]
    return "\n".join([*lines, "", stamp_line(stamp)]) + "\n"


if __name__ == "__main__":
    main()
