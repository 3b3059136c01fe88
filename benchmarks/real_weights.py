"""The chain of checks on real weights: MPNet (12 x 768) and MiniLM (6 x 384), gates closed by hand, both layouts.

No training: runs are written with 20, 40 and 60 % of every gate vector closed, at random or where the weights are
smallest, the other gates open or fractional, as sentence embeddings of the base's own pooling. What is shown is that
nothing changes between the gated model and the delivered graph, on real sentences, and how long the export takes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from finegates_export.common.files import staged_folder, write_json
from finegates_export.errors import FineGatesError

SHARES = (0.2, 0.4, 0.6)
LAYOUTS = ("coupled", "matrix")
WAYS = ("random", "magnitude")
ROWS = 32
MAX_LENGTH = 128
LOWEST_OPEN, HIGHEST_OPEN = 0.3, 1.2
"""Open gates are drawn between: a third of them are fractional."""


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bases", type=Path, nargs="+", required=True, help="model folders")
    parser.add_argument("--sentences", type=Path, required=True, help="TSV with a column `sentence`")
    parser.add_argument("--out", type=Path, required=True, help="results, without suffix")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    try:
        results = [
            result
            for base in arguments.bases
            for result in measure_base(base, read_sentences(arguments.sentences), arguments.threads)
        ]
    except FineGatesError as error:
        sys.exit(str(error))
    write_json(arguments.out.with_suffix(".json"), results)
    arguments.out.with_suffix(".md").write_text(markdown(results), encoding="utf-8")
    print(markdown(results))


def read_sentences(path: Path) -> list[str]:
    """The first `ROWS` sentences of a TSV."""
    lines = path.read_text(encoding="utf-8").splitlines()
    column = lines[0].split("\t").index("sentence")
    return [line.split("\t")[column] for line in lines[1 : ROWS + 1]]


def measure_base(base: Path, sentences: list[str], threads: int) -> Iterator[dict[str, Any]]:
    """Export every case of one base."""
    from finegates_export import ExportOptions, export

    for layout in LAYOUTS:
        for way in WAYS:
            for share in SHARES:
                with tempfile.TemporaryDirectory() as scratch:
                    run, out = Path(scratch) / "run", Path(scratch) / "model.onnx"
                    write_run(run, base, layout, way, share, sentences)
                    report = export(ExportOptions(ckpt=run, out=out, threads=threads, gathers="always"))
                result = {
                    "base": base.name, "layout": layout, "closed": way, "share": share,
                    "removed": report.plan.removed, "rows": report.rows, "real_rows": report.real_rows,
                    "links": {link.name: worst(link) for link in report.links}, "fused": report.fused,
                    "gathered": sum(side.gathered for side in report.plan.residual),
                    "seconds": round(report.seconds, 1),
                }  # fmt: skip
                print(json.dumps(result), file=sys.stderr)
                yield result


def worst(link: Any) -> float:
    """The largest difference of a link, as a share of the scale."""
    return max(link.relative, link.hidden_relative or 0.0)


def write_run(folder: Path, base_folder: Path, layout: str, way: str, share: float, sentences: list[str]) -> None:
    """A run folder with gates closed by hand and no adapter."""
    import torch

    from finegates_export.common.tasks.pooling import find_pooling
    from finegates_export.gates.bank import GateBank
    from finegates_export.gates.layout import build_layout
    from finegates_export.sources.base import find_base
    from finegates_export.sources.run_folder import RunInfo, write_run

    base = find_base(str(base_folder))
    config, family = base.config(), base.family()
    structure = family.structure(config)
    pooling = find_pooling(None, None, base.id, base.folder)
    scores = magnitudes(base.load("embedding", (), pooling), structure, layout) if way == "magnitude" else {}
    bank = GateBank(build_layout(layout, structure), structure)
    generator = np.random.default_rng(round(share * 100))
    vectors = {
        name: torch.from_numpy(draw(len(mu), share, scores.get(name), generator)) for name, mu in bank.vectors().items()
    }
    bank.load_vectors(vectors)
    tokenizer = base.tokenizer()
    encoded = tokenizer(sentences, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
    samples = {name: encoded[name] for name in family.input_names(config) if name in encoded}
    info = RunInfo(
        base_id=base.id, base_revision=None, base_tensors=base.tensor_hashes(), family=family.name, layout=layout,
        task="embedding", labels=(), max_length=MAX_LENGTH, removed=bank.closed_share(), metric="agreement", metrics={},
        trained_parameters={}, data={}, options={}, command="benchmarks/real_weights.py", steps=0, pooling=pooling.mode,
        normalize=pooling.normalize,
    )  # fmt: skip
    with staged_folder(folder, overwrite=True) as stage:
        tokenizer.save_pretrained(stage)
        write_run(stage, info, gates=vectors, head={}, samples=samples)


def draw(size: int, share: float, scores: Any, generator: np.random.Generator) -> Any:
    """One gate vector: `share` of it closed, by score where there is one."""
    order = generator.permutation(size) if scores is None else np.argsort(scores, kind="stable")
    mu = generator.uniform(LOWEST_OPEN, HIGHEST_OPEN, size) - 0.5
    mu[order[: round(size * share)]] = -0.8
    return mu.astype(np.float32)


def magnitudes(model: Any, structure: Any, layout: str) -> dict[str, Any]:
    """Per gate vector how large the weights behind each gate are; heads of the coupled layout are drawn at random."""
    from finegates_export.pruning.magnitude import magnitude_scores
    from finegates_export.pruning.planner import rows_of_side

    if layout == "coupled":
        units = magnitude_scores(model, structure)
        return {f"layers.{layer}.{kind}": values for (layer, kind), values in units.items()}
    scores = {}
    for group in structure.groups():
        for side in group.sides:
            for gated in (side, side.other):
                weight = (
                    rows_of_side(model, gated)[0] if gated.axis == "row" else model.get_submodule(gated.linear).weight.T
                )
                scores[gated.name] = weight.detach().norm(dim=1).numpy()
    return scores


def markdown(results: list[dict[str, Any]]) -> str:
    """The table."""
    names = list(results[0]["links"])
    head = ["model", "layout", "closed", "removed", *names, "fused attention", "gathers", "seconds"]
    lines = [
        "# The chain on real weights",
        "",
        "Largest difference of each form from the gated model, as a share of the scale, over sentence embeddings and "
        f"last hidden states, on {results[0]['rows']} rows of which {results[0]['real_rows']} are real sentences. No "
        "training; `make bench-chains` writes this page.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for one in results:
        links = [f"{one['links'][name]:.1e}" for name in names]
        cells = [
            one["base"], one["layout"], f"{one['share']:.0%}, {one['closed']}", f"{one['removed']:.1%}", *links,
            str(one["fused"]["attention"]), str(one["gathered"]), str(one["seconds"]),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
