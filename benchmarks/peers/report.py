"""The comparison as JSON, as a page, and as bars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finegates_export.common.files import write_json

MEGABYTE = 1e6
PANEL_INCHES = (5.2, 0.34)
"""Width of a panel, and height of a bar with its gap."""
MARGIN_INCHES = 1.1
OURS = ("ours", "openvino")
"""Peers whose models are our exports."""


def write_report(result: dict[str, Any], out: Path) -> None:
    """Write `out` with the endings .json, .md, .png and .svg."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out.with_suffix(".json"), result)
    out.with_suffix(".md").write_text(markdown(result, out.name), encoding="utf-8")
    draw(result, out)


def markdown(result: dict[str, Any], name: str) -> str:
    """The page.

    Args:
        result: what `run.compare` found.
        name: of the picture, without its ending.
    """
    models, settings, stamp = result["models"], result["settings"], result["stamp"]
    reference = next(model["title"] for model in models if model["id"] == result["reference"])
    shapes, metric = list(models[0]["timings"]), result["metric_name"]
    lines = [
        "# The same work done with other tools",
        "",
        f"{result['base']}, {metric} on {result['eval_rows']:,} evaluation rows; checkpoints were chosen by the same "
        f"rows. One run, seed {settings['seed']}. Pruned models learn for {settings['steps']:,} steps from the "
        f"unpruned one, which learned for {settings['unpruned-steps']:,}. Removed is the share of the layers' linear "
        "weights that is gone. Difference is the largest of the logits from the torch model that a file was made of, "
        "as a share of their largest.",
        "",
        f"Latency with {stamp['threads']} threads, medians of rounds in which all models take turns, one at a time. "
        "The ONNX files share one process of onnxruntime; OpenVINO and torch have one each; all of them are started "
        f"afresh {result['processes']} times at each shape. Every ratio is over *{reference}* in the same rounds, the "
        "mean over the starts, with its 95 % interval.",
        "",
        f"![Latency over {reference}]({name}.png)",
        "",
        f"| model | runtime | removed | parameters, M | file, MB | {metric} | difference | fused attention |",
        "|---|---|---|---|---|---|---|---|",
        *(_model_line(model) for model in models),
        "",
        f"| model | {' | '.join(f'{shape}, ms | ratio' for shape in shapes)} |",
        f"|---|{'---|---|' * len(shapes)}",
        *(_times_line(model, shapes) for model in models),
        "",
    ]
    lines += [
        f"- {peer}: {', '.join(f'{package} {version}' for package, version in told['versions'].items())}"
        for peer, told in result["peers"].items()
    ]
    lines += ["", f"`{stamp['command']}`, {stamp['date']}, {stamp['processor']}, {stamp['cores']} cores."]
    return "\n".join(lines) + "\n"


def _model_line(model: dict[str, Any]) -> str:
    size = "-" if model["file_bytes"] is None else f"{model['file_bytes'] / MEGABYTE:.1f}"
    fused = sum(count for name, count in model["fused"].items() if name.endswith("Attention"))
    attention = str(fused) if model["runtime"] == "onnxruntime" else "-"
    return (
        f"| {model['title']} | {model['runtime']} | {model['removed']:.1%} | {model['parameters'] / 1e6:.1f} | {size} "
        f"| {model['metric']:.4f} | {model['difference']:.1e} | {attention} |"
    )


def _times_line(model: dict[str, Any], shapes: list[str]) -> str:
    cells = []
    for shape in shapes:
        timing = model["timings"][shape]
        interval = f"{timing['ratio_low']:.2f} to {timing['ratio_high']:.2f}"
        cells += [f"{timing['p50_ms']:.2f}", f"{timing['ratio']:.3f} ({interval})"]
    return f"| {model['title']} | {' | '.join(cells)} |"


def draw(result: dict[str, Any], out: Path) -> None:
    """Ratios as horizontal bars, a panel a shape; our exports filled, all others in grey, int8 hatched."""
    from matplotlib.figure import Figure

    from finegates_bench.reports.plot_style import PALETTE, save_figure, styled

    models = result["models"]
    shapes = list(models[0]["timings"])
    places = range(len(models), 0, -1)
    size = (PANEL_INCHES[0] * len(shapes), PANEL_INCHES[1] * len(models) + MARGIN_INCHES)
    with styled():
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(shapes), sharey=True, squeeze=False)[0]
        for axes, shape in zip(panels, shapes, strict=True):
            timings = [model["timings"][shape] for model in models]
            ratios = [timing["ratio"] for timing in timings]
            ends = [
                [timing["ratio"] - timing["ratio_low"] for timing in timings],
                [timing["ratio_high"] - timing["ratio"] for timing in timings],
            ]
            axes.barh(
                places, ratios, xerr=ends, height=0.7,
                color=[PALETTE["float32"] if model["peer"] in OURS else PALETTE["muted"] for model in models],
                hatch=["///" if model["precision"] == "int8" else "" for model in models],
                edgecolor=PALETTE["paper"], ecolor=PALETTE["ink"],
            )  # fmt: skip
            axes.axvline(1.0, color=PALETTE["ink"], linewidth=0.8)
            axes.set_yticks(list(places), [model["title"] for model in models])
            axes.set_xlabel("latency / what a user gets today")
            axes.set_title(shape)
        save_figure(figure, out)
