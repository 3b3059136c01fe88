"""Pruned against unpruned over several seeds: same rows, steps, head and selection; judged on rows never used before.

Each model is trained with `finegates-train`'s verb, exported with `finegates-export`'s, and scored from its ONNX file.
Models that were trained already are not trained again, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

from finegates_export import ExportOptions, export, load
from finegates_export.common.files import write_json
from finegates_export.errors import FineGatesError
from finegates_export.pipeline.report import ExportReport
from finegates_trainer import TrainOptions, train
from finegates_trainer.running.progress import TerminalReporter


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.tsv, dev.tsv and test.tsv")
    parser.add_argument("--config", type=Path, required=True, help="recipe of the pruned model")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--work", type=Path, required=True, help="where runs and bundles go")
    parser.add_argument("--out", type=Path, required=True, help="results, without suffix: .json and .md are written")
    arguments = parser.parse_args()
    try:
        rows = [compare(arguments, int(seed)) for seed in arguments.seeds.split(",")]
    except (FineGatesError, ValueError) as error:
        sys.exit(str(error))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out.with_suffix(".json"), rows)
    table = markdown(rows)
    arguments.out.with_suffix(".md").write_text(table, encoding="utf-8")
    print(table)


def compare(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train, export and score the pruned and the unpruned model of one seed."""
    recipe = yaml.safe_load(arguments.config.read_text(encoding="utf-8"))
    settings = {name.replace("-", "_"): value for name, value in recipe.items()}
    row: dict[str, Any] = {"seed": seed}
    for name, layout in (("pruned", settings["layout"]), ("unpruned", "none")):
        out = arguments.work / f"{name}-{seed}"
        options = TrainOptions(base=arguments.base, data=str(arguments.data), out=out, seed=seed, **settings)
        options = dataclasses.replace(options, layout=layout, resume=True)
        print(f"\n{name}, seed {seed}", file=sys.stderr)
        run = train(options, TerminalReporter())
        bundle = arguments.work / f"{name}-{seed}.bundle"
        report = export(ExportOptions(ckpt=out, out=bundle, overwrite=True))
        row[name] = {
            "dev": run.info.metrics[run.info.metric],
            "test": accuracy(bundle, arguments.data / "test.tsv"),
            "removed": report.plan.removed,
            "steps": run.info.steps,
            "chain_rows": report.real_rows,
            "largest_difference": largest_difference(report),
        }
    return row


def accuracy(bundle: Path, rows: Path) -> float:
    """Share of the rows that the bundle's graph labels as people did."""
    lines = [line.rsplit("\t", 1) for line in rows.read_text(encoding="utf-8").splitlines()[1:]]
    predictions = load(bundle).predict([sentence for sentence, _ in lines])
    return mean(prediction.label == label for prediction, (_, label) in zip(predictions, lines, strict=True))


def largest_difference(report: ExportReport) -> float:
    """The chain's largest float32 difference, relative to the scale, logits and hidden states alike."""
    return max(max(link.relative, link.hidden_relative or 0.0) for link in report.links if link.exact)


def markdown(rows: list[dict[str, Any]]) -> str:
    """The seeds as a table, with the mean difference below."""
    lines = [
        "| seed | unpruned, test | pruned, test | difference (points) | removed | unpruned, dev | pruned, dev "
        "| chain, of scale |",
        "|---|---|---|---|---|---|---|---|",
    ]
    differences = []
    for row in rows:
        pruned, unpruned = row["pruned"], row["unpruned"]
        differences.append((pruned["test"] - unpruned["test"]) * 100)
        lines.append(
            f"| {row['seed']} | {unpruned['test']:.4f} | {pruned['test']:.4f} | {differences[-1]:+.2f} "
            f"| {pruned['removed']:.4f} | {unpruned['dev']:.4f} | {pruned['dev']:.4f} "
            f"| {pruned['largest_difference']:.1e} |"
        )
    spread = f", standard deviation {stdev(differences):.2f}" if len(differences) > 1 else ""
    before, after = (mean(row[name]["test"] for row in rows) for name in ("unpruned", "pruned"))
    lines.append(
        f"\nMean over {len(rows)} seeds: unpruned {before:.4f}, pruned {after:.4f}, difference "
        f"{mean(differences):+.2f} points{spread}. Steps: {rows[0]['pruned']['steps']} each. Chain on "
        f"{rows[0]['pruned']['chain_rows']} real sentences."
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
