"""The report's tables as text cells, for all renderers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from finegates_bench.measuring.export_facts import ChainLink
from finegates_bench.measuring.results import BenchReport, ModelResult
from finegates_export.common.tasks import Task, task_of
from finegates_export.pipeline.report import MIB

NOTHING = "-"
RATIO_TOLD = (
    "the mean over processes of a median over the unpruned model's; interval: bootstrap over processes, and over the "
    "rounds of each, drawn as pairs"
)
FUSION_WORDS = (
    "Nodes that the target fused, by class, and products in integers; the seconds are those of the whole export, which "
    "makes the graph in floats and, if asked, the int8 graph."
)
CHAIN_WORDS = (
    "Every form of a model against the gated one, on the same rows: the largest difference of the outputs over their "
    "scale. Float32 forms are held to that, float16 and int8 forms to their predictions."
)


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    cells: tuple[str, ...]
    """The first is the line's name, the others are numbers."""
    trained: bool = True
    """Whether the numbers belong to a trained model."""


@dataclass(frozen=True)
class Table:
    """A table with its title."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    words: str = ""
    """Introduction; empty if its columns are self-explanatory."""


def tables(report: BenchReport) -> Iterator[Table]:
    """The models, then their timings, a table per shape."""
    yield models_table(report)
    for shape in report.shapes:
        yield shape_table(report, shape)


def making_tables(report: BenchReport) -> Iterator[Table]:
    """How the models were made: fused nodes, the chain, widths of every layer."""
    yield fusion_table(report)
    yield chain_table(report)
    for model in planned_models(report):
        yield widths_table(model)


def planned_models(report: BenchReport) -> tuple[ModelResult, ...]:
    """One model per plan: those in float, and the unpruned one only if there is no other."""
    single = tuple(model for model in report.models if model.precision != "int8")
    return tuple(model for model in single if model.kind not in ("unpruned", "other")) or single[:1]


def models_table(report: BenchReport) -> Table:
    """Size and metric of each model."""
    columns = ("model", "removed", "kept weights", "of them padding", "parameters", "file, MiB", report.metric_name)
    rows = tuple(
        Row(
            (
                model.label,
                f"{model.removed:.1%}",
                f"{model.kept_weights:,}",
                f"{model.padding_weights:,}",
                f"{model.parameters:,}",
                f"{model.file_bytes / MIB:.1f}",
                metric_words(model),
            ),
            model.trained,
        )
        for model in report.models
    )
    return Table("Models", columns, rows)


def shape_table(report: BenchReport, shape: str) -> Table:
    """Latency of each model at one shape."""
    columns = (
        "model", "p50, ms", "p95, ms", "rows/s", "ratio", "95 % interval", "kept FLOPs", "ratio / kept", "GFLOP/s",
    )  # fmt: skip
    rows = []
    for model in report.models:
        timing = model.timing(shape)
        # Another model's kept FLOPs are not comparable with this one's time.
        comparable = model.kind != "other"
        quotient = timing.ratio_over_kept_flops if comparable else None
        cells = (
            model.label,
            f"{timing.p50_ms:.2f}",
            f"{timing.p95_ms:.2f}",
            f"{timing.rows_per_second:,.0f}",
            f"{timing.ratio:.2f}",
            f"{timing.ratio_low:.2f} to {timing.ratio_high:.2f}",
            f"{timing.kept_flops:.2f}" if comparable else NOTHING,
            NOTHING if quotient is None else f"{quotient:.2f}",
            f"{timing.gflop_per_second:.1f}",
        )
        rows.append(Row(cells, model.trained))
    return Table(f"{shape}, {report.models[0].timing(shape).rounds} rounds", columns, tuple(rows))


def fusion_table(report: BenchReport) -> Table:
    """The target's result for each graph; a column per class of nodes in any of them."""
    classes = sorted({name for model in report.models for name in model.export.fused})
    rows = tuple(
        Row(
            (
                model.label,
                model.export.target,
                *(f"{model.export.fused.get(name, 0)}" for name in classes),
                f"{model.export.integer_products}",
                f"{len(model.left_in_float)}",
                f"{model.export.seconds:.1f}",
            ),
            model.trained,
        )
        for model in report.models
    )
    columns = ("model", "target", *classes, "integer products", "left in float", "export, s")
    return Table("Fused nodes", columns, rows, FUSION_WORDS)


def chain_table(report: BenchReport) -> Table:
    """Every form of every model against the gated one; a column per form of any of them."""
    task = task_of(report.task)
    forms = tuple(dict.fromkeys(link.name for model in report.models for link in model.export.chain))
    rows = []
    for model in report.models:
        links = {link.name: link_words(link, task) for link in model.export.chain}
        rows.append(Row((model.label, *(links.get(form, NOTHING) for form in forms)), model.trained))
    return Table("Chain", ("model", *forms), tuple(rows), CHAIN_WORDS)


def widths_table(model: ModelResult) -> Table:
    """The rest of every layer."""
    rows = tuple(
        Row(
            (
                f"layer {layer.layer}",
                f"{layer.heads} of {layer.heads_before}",
                f"{layer.qk_width} of {layer.head_width_before}",
                f"{layer.vo_width} of {layer.head_width_before}",
                f"{layer.neurons} of {layer.neurons_before}",
                f"{layer.attention_padding}",
                f"{layer.neuron_padding}",
            ),
            model.trained,
        )
        for layer in model.export.layers
    )
    columns = ("widths", "heads", "Q/K a head", "V/O a head", "neurons", "padding, dims", "padding, neurons")
    return Table(f"Widths of {model.label}", columns, rows)


def metric_words(model: ModelResult) -> str:
    """The metric, marked if recorded in training."""
    if model.metric is None:
        return NOTHING
    return f"{model.metric:.4f}" + (" (training)" if model.metric_source == "training" else "")


def link_words(link: ChainLink, task: Task) -> str:
    """The difference, and the agreement of predictions if the link is judged by it."""
    if link.exact or link.agreement is None:
        return f"{link.relative:.1e}"
    return f"{link.relative:.1e}, {task.agreement_brief.format(link.agreement)}"
