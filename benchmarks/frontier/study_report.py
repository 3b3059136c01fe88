"""A study's rows as tables: every level over its seeds, and every goal with the difference of each seed."""

from __future__ import annotations

from statistics import mean, stdev
from typing import Any

from finegates_trainer.learning.metrics import LESS_IS_BETTER, gain

TOLD_APART = 0.01
"""A nominal share is told where it is that much more than what is removed."""


def markdown(result: dict[str, Any]) -> str:
    """The page of a study.

    Args:
        result: title, rows and goals, as `study.write_results` has them.
    """
    rows: list[dict[str, Any]] = result["rows"]
    by_run: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        by_run.setdefault(row["run"], {})[row["seed"]] = row
    first = rows[0]
    lines = [
        f"# {result['title']}",
        "",
        f"{first['metric_name']} on {first['eval_rows']:,} evaluation rows, computed on the exported ONNX file; "
        "checkpoints were chosen by the same rows. Removed is the share of the layers' linear weights that is gone.",
        "",
        "| run | removed | mean | standard deviation | seeds | steps | rows |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_run_line(name, list(seeds.values())) for name, seeds in by_run.items()]
    unit = "% better" if first["metric_name"] in LESS_IS_BETTER else "points"
    compared = [line for goal in result["goals"] for line in _goal_line(goal, by_run)]
    if compared:
        lines += [
            "",
            f"| compared | against | seeds, {unit} | mean, {unit} | goal | |",
            "|---|---|---|---|---|---|",
            *compared,
        ]
    worst = max(row["largest_difference"] for row in rows)
    lines += ["", f"Largest difference between gated model and ONNX file: {worst:.1e} of the scale."]
    return "\n".join(lines) + "\n"


def _run_line(name: str, rows: list[dict[str, Any]]) -> str:
    metrics = [row["metric"] for row in rows]
    spread = f"{stdev(metrics):.4f}" if len(metrics) > 1 else "-"
    each = ", ".join(f"{metric:.4f}" for metric in metrics)
    removed = f"{mean(row['removed'] for row in rows):.1%}"
    nominal = [row["nominal"] for row in rows if row.get("nominal") is not None]
    if nominal and mean(nominal) > mean(row["removed"] for row in rows) + TOLD_APART:
        removed += f" (nominal {mean(nominal):.1%})"
    return (
        f"| {name} | {removed} | {mean(metrics):.4f} | {spread} | {each} | {rows[0]['steps']:,} "
        f"| {rows[0]['train_rows']:,} |"
    )


def _goal_line(goal: dict[str, Any], by_run: dict[str, dict[int, dict[str, Any]]]) -> list[str]:
    mine, theirs = by_run.get(goal["run"], {}), by_run.get(goal["against"], {})
    seeds = [seed for seed in mine if seed in theirs]
    differences = [gain(mine[seed]["metric_name"], mine[seed]["metric"], theirs[seed]["metric"]) for seed in seeds]
    if not differences:
        return []
    middle = mean(differences)
    verdict = "met" if middle >= goal["least"] else "missed"
    each = ", ".join(f"{value:+.2f}" for value in differences)
    return [f"| {goal['run']} | {goal['against']} | {each} | {middle:+.2f} | {goal['least']:+.2f} | {verdict} |"]
