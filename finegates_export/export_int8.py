"""The int8 form of an export: all linears, or all but those that the predictions cannot do without."""

from __future__ import annotations

from pathlib import Path

from finegates_export.errors import ChainError, FusionError
from finegates_export.export_job import PLAIN, ExportJob

QUANTIZED_PLAIN, QUANTIZED_FUSED, QUANTIZED = "plain_int8.onnx", "fused_int8.onnx", "model_quantized.onnx"

MOST_EXCLUDED = 0.5
"""Share of the linears that int8 may leave in float before the export gives up."""
RANKING_BATCHES = 6


def write_int8(job: ExportJob, scratch: Path) -> None:
    """Quantize all linears; where the chain does not hold then, leave the most sensitive ones in float.

    Args:
        job: has written its float32 graphs into `scratch`.
        scratch: where graphs go.

    Raises:
        ChainError: predictions or metric suffer too much whatever is left in float.
        FusionError: fewer integer products than linears.
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
            job.chain.drop("int8")
        else:
            return


def _quantize(job: ExportJob, scratch: Path, exclude: list[str]) -> None:
    from finegates_export.onnx.half import to_float16
    from finegates_export.onnx.inspect import inspect_graph
    from finegates_export.onnx.quantize import load_graph, quantize_dynamic_int8, quantize_static_int8
    from finegates_export.onnx.write import keep_outputs, save_graph

    left = [job.products[path] for path in exclude]
    files, products = (scratch / PLAIN, scratch / QUANTIZED_PLAIN), [*job.products.values()]
    if job.options.quantize == "int8-static":
        rows = [batch.inputs for batch in job.chain.batches if batch.real]
        quantize_static_int8(*files, products, rows, left)
    else:
        quantize_dynamic_int8(*files, products, left)
    graph = job.target.finish(load_graph(scratch / QUANTIZED_PLAIN), job.expected_fusions())
    found, wanted = inspect_graph(graph).integer_products, len(job.products) - len(exclude)
    job.outcome.integer_products, job.outcome.left_in_float = found, tuple(exclude)
    if found != wanted:
        raise FusionError(
            f"quantization made {found} integer products of {wanted} linears; nothing was written. Install the "
            "versions of constraints.txt"
        )
    if job.target.FLOAT == "float16":
        graph = to_float16(graph)
    save_graph(graph, scratch / QUANTIZED_FUSED)
    save_graph(keep_outputs(graph, job.outputs), scratch / QUANTIZED, job.metadata())
    del graph
    job.check("int8, fused", scratch / QUANTIZED_FUSED, exact=False)
    job.check("int8, as delivered", scratch / QUANTIZED, exact=False)


def _by_sensitivity(job: ExportJob) -> list[str]:
    from finegates_export.onnx.sensitivity import rank_by_sensitivity

    every = max(1, len(job.chain.batches) // RANKING_BATCHES)
    inputs = [batch.inputs for batch in job.chain.batches[::every]]
    form = job.torch_form(job.model, job.model)
    return rank_by_sensitivity(job.model, list(job.products), form, inputs, job.outputs)
