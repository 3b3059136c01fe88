"""Refuses options that do not fit a run, before any work is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finegates_export.common.tasks import graph_outputs
from finegates_export.errors import InputError, UnsupportedError
from finegates_export.graphs.targets import PACKAGES, TARGETS
from finegates_export.graphs.targets.target import no_cache

if TYPE_CHECKING:
    from finegates_export.pipeline.options import ExportOptions
    from finegates_export.pipeline.source import Source


def check_request(options: ExportOptions, source: Source) -> None:
    """Refuse options that do not apply to the run.

    Args:
        options: the export.
        source: what is exported.

    Raises:
        InputError: the run lacks what the options need.
        UnsupportedError: the options do not apply to the run's task.
    """
    task, folder = source.run.info.task, source.run.folder
    if options.pool_in_graph and source.pooling is None:
        raise UnsupportedError(
            f"--pool-in-graph applies to embeddings, and {folder} is a run of the task {task}; omit it"
        )
    if options.quantize == "int8-static" and not source.run.samples:
        raise InputError(
            f"quantize: int8-static takes the ranges of activations from the run's rows, and {folder} kept none "
            "(--samples 0); train with --samples, or use --quantize int8"
        )
    if source.task.generates:
        _check_cached(options)
        return
    for name in ("vocabulary_of", "quantize_head"):
        if getattr(options, name):
            raise UnsupportedError(
                f"--{name.replace('_', '-')} applies to text-generation, and {folder} is a run of the task {task}; "
                "omit it"
            )
    if options.target in PACKAGES:
        from finegates_export.deploy.triton.served import check_task

        check_task(source.task, graph_outputs(source.task, pooled=options.pool_in_graph))


def _check_cached(options: ExportOptions) -> None:
    """Refuse options that do not fit a decoder's cache."""
    opset = None if options.target in PACKAGES else TARGETS[options.target].CACHED_OPSET
    if opset is None:
        raise no_cache(options.target)
    if options.opset is not None and options.opset < opset and options.target != "portable":
        raise UnsupportedError(
            f"--opset {options.opset}: {options.target} writes a decoder with operators of opset {opset}; omit "
            "--opset, or use --target portable"
        )
    if options.quantize == "int8-static":
        raise UnsupportedError(
            "--quantize int8-static takes ranges from whole texts, and a decoder reads its text after a cache; use "
            "--quantize int8 or int4"
        )
