"""The quantized form of an export: all linears, or all but those that are better left in float."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from finegates_export.common.graph_forms import GRAPH_FILES, form_of, graph_bytes
from finegates_export.errors import ChainError, FusionError
from finegates_export.pipeline.job import PLAIN, ExportJob
from finegates_export.pipeline.quantized_form import QuantizedForm
from finegates_export.pruning.slow_linears import FloatLinear

if TYPE_CHECKING:
    from finegates_export.pipeline.sensitivity import Simulation

QUANTIZED_PLAIN, QUANTIZED_FUSED = "plain_quantized.onnx", "fused_quantized.onnx"

MOST_EXCLUDED = 0.5
"""Share of the linears that may stay in float for the predictions' sake before the export gives up."""
RANKING_BATCHES = 6


def write_quantized(job: ExportJob, scratch: Path) -> None:
    """Quantize all linears but slow ones; where the chain does not hold then, leave the most sensitive in float too.

    Args:
        job: has written its float graphs into `scratch`.
        scratch: where graphs go.

    Raises:
        ChainError: predictions or metric suffer too much whatever is left in float.
        FusionError: fewer products of quantized weights than linears.
    """
    ranked: list[str] = []
    excluded = 0
    while True:
        try:
            _quantize(job, scratch, ranked[:excluded])
        except ChainError:
            ranked = ranked or _by_sensitivity(job)
            excluded = max(1, excluded * 2)
            if excluded > len(ranked) * MOST_EXCLUDED:
                raise
            job.chain.drop(form_of(job.options.quantize))
        else:
            return


def _quantize(job: ExportJob, scratch: Path, sensitive: list[str]) -> None:
    from finegates_export.graphs.inspect import inspect_graph
    from finegates_export.graphs.passes.half import to_float16
    from finegates_export.graphs.products import load_graph
    from finegates_export.graphs.quantization.head import quantize_head
    from finegates_export.graphs.saving import keep_outputs, save_graph

    quantization = job.options.quantize
    form = form_of(quantization)
    why = f"stays in float: with it in {form} predictions change too much"
    left = (*job.slow, *(FloatLinear(path, why) for path in sensitive))
    _write_plain(job, scratch, [job.products[one.linear] for one in left])
    graph = load_graph(scratch / QUANTIZED_PLAIN)
    if job.options.quantize_head:
        quantize_head(graph)
    graph = job.finish(graph)
    facts = inspect_graph(graph)
    found = facts.blockwise_products if form == "int4" else facts.integer_products
    wanted = len(job.products) - len(left)
    if found != wanted:
        raise FusionError(
            f"quantization made {found} {form} products of {wanted} linears; nothing was written. Install the "
            "versions of constraints.txt"
        )
    if job.target.FLOAT == "float16":
        graph = to_float16(graph)
    delivered = scratch / GRAPH_FILES[form]
    save_graph(graph, scratch / QUANTIZED_FUSED)
    save_graph(keep_outputs(graph, job.outputs), delivered, job.metadata())
    del graph
    job.collect()
    before = job.chain.links[-1]
    job.check(f"{form}, fused", scratch / QUANTIZED_FUSED, exact=False)
    after = job.check(f"{form}, as delivered", delivered, exact=False)
    job.outcome.quantized = QuantizedForm(
        quantization,
        found,
        left,
        graph_bytes(delivered),
        before.metric,
        after.metric,
        after.agreement,
        job.options.quantize_head,
    )


def _write_plain(job: ExportJob, scratch: Path, left: list[str]) -> None:
    """The plain graph with quantized products, but for the nodes named in `left`."""
    from finegates_export.graphs.quantization.int4 import FLOAT_STEPS, INTEGER_STEPS, quantize_int4
    from finegates_export.graphs.quantization.int8 import quantize_dynamic_int8, quantize_static_int8

    source, target, products = scratch / PLAIN, scratch / QUANTIZED_PLAIN, [*job.products.values()]
    if job.options.quantize == "int4":
        level = INTEGER_STEPS if job.target.FLOAT == "float32" else FLOAT_STEPS
        quantize_int4(source, target, products, left, block_size=job.options.block_size, accuracy_level=level)
    elif job.options.quantize == "int8-static":
        rows = [batch.inputs for batch in job.chain.batches if batch.real]
        quantize_static_int8(source, target, products, rows, left)
    else:
        quantize_dynamic_int8(source, target, products, left)


def _by_sensitivity(job: ExportJob) -> list[str]:
    """The linears that are not in float already, the most sensitive first."""
    from finegates_export.pipeline.sensitivity import rank_by_sensitivity

    every = max(1, len(job.chain.batches) // RANKING_BATCHES)
    inputs = [batch.inputs for batch in job.chain.batches[::every]]
    model = job.shrunk_model()
    form = job.torch_form(model, model)
    slow = {left.linear for left in job.slow}
    linears = [path for path in job.products if path not in slow]
    return rank_by_sensitivity(model, linears, form, inputs, job.chain.outputs, _simulation(job.options))


def _simulation(options: Any) -> Simulation:
    from finegates_export.pipeline.sensitivity import INT8, blockwise_int4

    return blockwise_int4(options.block_size) if options.quantize == "int4" else INT8
