"""The last stage: put finished graphs into place, as a file, a bundle or a model repository."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.common.files import staged_file, staged_folder
from finegates_export.common.graph_forms import GRAPH_FILES, IR_FILE, Form, form_of, graph_bytes, graph_files
from finegates_export.errors import OutputError
from finegates_export.graphs.targets import PACKAGES, web
from finegates_export.runtime.bundle_files import EXPORT_MARKS

if TYPE_CHECKING:
    from torch import nn

    from finegates_export.pipeline.bundle.genai_files import GenerationFiles
    from finegates_export.pipeline.float_graphs import FloatGraphs
    from finegates_export.pipeline.options import ExportOptions
    from finegates_export.pipeline.report import ExportReport
    from finegates_export.pipeline.source import Source
    from finegates_export.pruning.plan import ShrinkPlan


def deliver(
    options: ExportOptions,
    source: Source,
    graphs: FloatGraphs,
    model: nn.Module | None,
    report: ExportReport,
    page: Callable[[Path], None] | None,
) -> None:
    """Put an export into place; it appears whole or not at all.

    Args:
        options: the export.
        source: what is exported.
        graphs: its graphs, the quantized one in the same folder; delivered files are moved from there.
        model: the shrunk torch model, if it is delivered too.
        report: the export's outcome.
        page: puts the browser's page into a bundle's folder; None for none.

    Raises:
        OutputError: it cannot be written there.
    """
    forms: list[Form] = ["float", *([form_of(options.quantize)] if options.quantize != "none" else [])]
    files, out = [graphs.folder / GRAPH_FILES[form] for form in forms], options.out
    if out is None:
        raise OutputError("there is no place to deliver to; name one with --out")
    if out.suffix == ".onnx":
        _deliver_file(files[-1], out, overwrite=options.overwrite)
        return
    if options.target in PACKAGES:
        bundle = graphs.folder / "bundle"
        bundle.mkdir()
        _fill(bundle, options, source, graphs, files, model, report)
        _write_repository(options, bundle, out, forms[-1])
        return
    with staged_folder(out, overwrite=options.overwrite, marks=EXPORT_MARKS) as folder:
        if page is not None:
            page(folder)
        _fill(folder, options, source, graphs, files, model, report)


def _deliver_file(graph: Path, out: Path, *, overwrite: bool) -> None:
    if len(graph_files(graph)) > 1:
        raise OutputError(f"{out}: {graph_bytes(graph):,} bytes of weights do not fit one file; use --out FOLDER/")
    with staged_file(out, overwrite=overwrite) as stage:
        shutil.move(graph, stage)


def _write_repository(options: ExportOptions, bundle: Path, out: Path, form: Form) -> None:
    from finegates_export.deploy.triton import TritonOptions, write_repository

    threads, overwrite = options.threads, options.overwrite
    write_repository(TritonOptions(bundle=bundle, out=out, form=form, threads=threads, overwrite=overwrite))


def _fill(
    folder: Path,
    options: ExportOptions,
    source: Source,
    graphs: FloatGraphs,
    files: list[Path],
    model: nn.Module | None,
    report: ExportReport,
) -> None:
    from finegates_export.pipeline.bundle.write import Content, write_bundle
    from finegates_export.pruning.shrunk_folder import ShrunkInfo

    run, pruned = source.run, graphs.pruned
    if source.vocabulary:
        words = files[0].parent / "tokenizer"
        words.mkdir()
        source.vocabulary.write_tokenizer(run.folder, words)
        run = replace(run, folder=words)
    info = ShrunkInfo(source.run.info, pruned.plan, pruned.before.parameters, source.run.folder)
    content = Content(
        run,
        source.delivered_config,
        report,
        tuple(files),
        pooled=options.pool_in_graph,
        openvino=graphs.folder / IR_FILE if report.openvino else None,
        generation=_generation_files(source, pruned.plan),
        torch_model=None if model is None or not options.torch else (model, info),
    )
    write_bundle(folder, content, onnx_folder=options.onnx_folder or options.target == web.NAME)


def _generation_files(source: Source, plan: ShrinkPlan) -> GenerationFiles | None:
    """The files of a decoder's clients; None for other tasks."""
    from finegates_export.pipeline.bundle.genai_files import GenerationFiles
    from finegates_export.pruning.cache_widths import shrunk_cache

    if not source.task.generates:
        return None
    settings = source.generation_settings()
    if source.vocabulary:
        settings = source.vocabulary.settings(settings)
    longest = source.family.max_length(source.config)
    return GenerationFiles(source.delivered_config, shrunk_cache(plan), settings, longest)
