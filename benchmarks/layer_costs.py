"""How well the table of layer costs predicts whole models, and what packing Q, K and V is worth by the heads' width.

A random-weight BERT of all-MiniLM-L6-v2's shape (6 x 384) is closed in several ways. Each model's speed-up is predicted
from the table and measured on its whole graph, all of them interleaved in one fresh process.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bert_base import LABELS, SIZES, write_base
from finegates_export.common.files import write_json
from finegates_export.common.shapes import Shape
from finegates_export.common.stamp import versions
from finegates_export.errors import FineGatesError

STRUCTURES = (
    *(("both halves", share) for share in (0.2, 0.35, 0.5, 0.65, 0.8)),
    *((kind, 0.5) for kind in ("feed-forward", "attention", "heads")),
)
"""What is closed, and how much of it."""
WIDTHS = (4, 8, 12, 14, 16, 17, 20, 24, 28, 32)
"""Of all heads' Q/K and V dims, packed and apart."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="where base and graphs go")
    parser.add_argument("--out", type=Path, required=True, help="results, without suffix")
    parser.add_argument("--shape", type=Shape.parse, default=Shape(8, 128))
    parser.add_argument("--seconds", type=float, default=60.0, help="for the whole models")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write-only", action="store_true", help="write the graphs and measure nothing yet")
    arguments = parser.parse_args()
    try:
        widths = write_graphs(arguments.work, arguments.shape)
        if arguments.write_only:
            return
        result = measure(arguments.work, widths, arguments.shape, arguments.seconds, arguments.threads)
    except (FineGatesError, ValueError) as error:
        sys.exit(str(error))
    write_json(arguments.out.with_suffix(".json"), result)
    arguments.out.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


def write_graphs(work: Path, shape: Shape) -> dict[str, Any]:
    """Every model's graph; their widths by name, the unpruned one first, then the least."""
    from finegates_export.costs.model_widths import ModelWidths
    from finegates_export.costs.speed_probe import SpeedProbe
    from finegates_export.sources.base import find_base

    if not (work / "base").exists():
        work.mkdir(parents=True, exist_ok=True)
        write_base(work / "base", **SIZES["6x384"])
    with SpeedProbe(find_base(str(work / "base")), "classification", LABELS, shape=shape) as probe:
        units = {(group.layer, group.kind): group for group in probe.structure.groups()}
        whole = {key: np.ones(group.size, bool) for key, group in units.items()}
        masks: dict[str, Any] = {"unpruned": whole, "least": probe.least()}
        for number, (kind, share) in enumerate(STRUCTURES):
            masks[f"{kind}, {share:.0%} closed"] = closed(probe.structure, kind, share, number)
        for name, keep in masks.items():
            probe.write(None if name == "unpruned" else keep, work / file_of(name))
        return {name: ModelWidths.of(keep, probe.structure) for name, keep in masks.items()}


def closed(structure: Any, kind: str, share: float, seed: int) -> Mapping[Any, Any]:
    """Masks with random units closed: of both halves as settling would, or a share of one kind in every layer."""
    from finegates_export.pruning.settle import settle
    from finegates_export.pruning.widths import Widths

    generator = np.random.default_rng(seed)
    groups = list(structure.groups())
    if kind == "both halves":
        return settle({(g.layer, g.kind): generator.random(g.size) for g in groups}, structure, share, Widths())
    keep = {}
    for group in groups:
        mask_hd = np.ones((group.heads, group.width), bool)
        if kind == "feed-forward" and group.kind == "ffn":
            mask_hd[0] = generator.permutation(group.size) >= share * group.size
        elif kind == "heads" and group.kind != "ffn":
            mask_hd[: round(share * group.heads)] = False
        elif kind == "attention" and group.kind != "ffn":
            mask_hd[:, : round(group.width * share * generator.uniform(0.7, 1.3))] = False
        keep[group.layer, group.kind] = mask_hd.reshape(-1)
    return keep


def measure(work: Path, widths: dict[str, Any], shape: Shape, seconds: float, threads: int) -> dict[str, Any]:
    """The table, the whole models, and packing."""
    from finegates_export.costs.layer_costs import measure_layer_costs
    from finegates_export.costs.speed_probe import anchored
    from finegates_export.costs.timing.model_times import time_models
    from finegates_export.costs.timing.model_worker import ModelSpec
    from finegates_export.costs.timing.timer import Budget
    from finegates_export.sources.base import find_base

    base = find_base(str(work / "base"))
    costs = measure_layer_costs(base.family(), base.config(), shape, threads=threads)
    graphs = {name: str(work / file_of(name)) for name in widths}
    spec = ModelSpec(graphs, shape.batch, shape.sequence, base.config().vocab_size, threads, 0, Budget(20, seconds))
    with tempfile.TemporaryDirectory() as scratch:
        times = {name: np.asarray(rounds) for name, rounds in time_models(spec, Path(scratch)).items()}
    layers = {name: one.layers_ms(costs) for name, one in widths.items()}
    measured = {name: float(np.median(times["unpruned"] / rounds)) for name, rounds in times.items()}
    unpruned = float(np.median(times["unpruned"])) / 1e6
    anchor = anchored(unpruned, measured["least"], layers["unpruned"], layers["least"])
    models = [{"model": name, "measured": measured[name], "predicted": anchor.speedup(layers[name])} for name in widths]
    return {
        "shape": str(shape),
        "threads": threads,
        "rounds": len(times["unpruned"]),
        "stamp": costs[0].stamp,
        "versions": versions(),
        "unpruned_ms": unpruned,
        "rest_ms": anchor.rest,
        "factor": anchor.factor,
        "models": models,
        "packing": packing(costs[0].whole_attention, threads),
    }


def packing(whole: Any, threads: int) -> list[dict[str, float]]:
    """An attention half by the width of all its heads, Q, K and V in one operator and in three products."""
    from finegates_export.costs.cost_table import CostTable
    from finegates_export.costs.timing.block_times import Precision

    pairs = {width: [replace(whole, qk=width, vo=width, packed=packed) for packed in (True, False)] for width in WIDTHS}
    table = CostTable(threads, precision=Precision(seconds=20.0))
    costs = table.milliseconds([shape for pair in pairs.values() for shape in pair])
    return [
        {"width": width, "packed_ms": costs[packed].median, "apart_ms": costs[apart].median}
        for width, (packed, apart) in pairs.items()
    ]


def file_of(name: str) -> str:
    """Where a model's graph lies in the working folder."""
    return "".join(letter if letter.isalnum() else "-" for letter in name) + ".onnx"


def markdown(result: dict[str, Any]) -> str:
    """The tables."""
    lines = [
        "# What layers cost, and what the sum says of whole models",
        "",
        f"Random-weight BERT of 6 x 384 at {result['shape']}, {result['threads']} threads, {result['rounds']} "
        f"interleaved rounds in a fresh process, on {result['stamp']['processor']} with "
        f"{result['stamp']['onnxruntime']}. Unpruned {result['unpruned_ms']:.1f} ms, {result['rest_ms']:.1f} ms "
        f"of them beside the layers' halves; what the table says of these is {1 / result['factor']:.1%} of "
        "what they take, and predictions are scaled by that. `make bench-layers` writes this page.",
        "",
        "| closed | speed-up measured | predicted | off by |",
        "|---|---|---|---|",
    ]
    for model in result["models"]:
        off = model["predicted"] / model["measured"] - 1.0
        lines.append(f"| {model['model']} | {model['measured']:.3f} | {model['predicted']:.3f} | {off:+.1%} |")
    lines += [
        "",
        "An attention half of 12 heads by their width, Q, K and V in one operator (packed) and in three products:",
        "",
        "| dims a head | packed, ms | apart, ms |",
        "|---|---|---|",
    ]
    lines += [f"| {row['width']} | {row['packed_ms']:.2f} | {row['apart_ms']:.2f} |" for row in result["packing"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
