"""The verb `export`: run folder in, proven ONNX out."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.common.files import check_destination, scratch_folder, staged_file, staged_folder
from finegates_export.common.graph_forms import GRAPH_FILES, Form, form_of, graph_bytes, graph_files
from finegates_export.deploy.web.site import UNPRUNED_FOLDER
from finegates_export.errors import OutputError
from finegates_export.graphs.targets import PACKAGES, web
from finegates_export.runtime.bundle_files import EXPORT_MARKS

if TYPE_CHECKING:
    from finegates_export.deploy.web.site import Site
    from finegates_export.pipeline.job import ExportJob
    from finegates_export.pipeline.options import ExportOptions
    from finegates_export.pipeline.report import ExportReport
    from finegates_export.sources.base import BaseModel
    from finegates_export.sources.run_folder import Run


def export(options: ExportOptions, base: BaseModel | None = None) -> ExportReport:
    """Fold, plan, shrink, write, fuse and, if asked, quantize a trained run; prove every step; deliver.

    Args:
        options: the export.
        base: the base, where the caller has found it already; as a `SharedBase`, it is read once for many exports.

    Raises:
        RunFolderError: the run folder is missing, damaged, or belongs to another base.
        ChainError: a step changed what the model computes; nothing was written.
        FusionError: the target's fusions found less than the family promises.
        OutputError: the result cannot be written.
        UnsupportedError: the target does not serve the run's task.
    """
    import torch

    from finegates_export.deploy.triton.served import check_task
    from finegates_export.deploy.web.site import plan_site
    from finegates_export.pipeline.job import ExportJob
    from finegates_export.pipeline.quantize import write_quantized

    check_place(options)
    if options.threads:
        torch.set_num_threads(options.threads)
    run, found = _source(options, base)
    site = None
    if options.wants_page:
        site = plan_site(run, baseline=options.baseline, libraries=options.web_libraries)
    job = ExportJob(options, run, found)
    if options.target in PACKAGES:
        check_task(job.task, job.outputs)
    job.prepare()
    if options.plan_only or options.out is None:
        return job.report()
    with scratch_folder(options.out) as scratch:
        job.write(scratch)
        if options.quantize != "none":
            write_quantized(job, scratch)
        report = job.report()
        _deliver(options.out, job, scratch, report, site)
    return report


def check_place(options: ExportOptions) -> None:
    """Fail before any work if the export could not be put where it is asked for.

    Raises:
        OutputError: see `check_destination`; what an export reads is never replaced by it, nor a folder that is none.
    """
    if options.out is None or options.plan_only:
        return
    marks = () if options.out.suffix == ".onnx" else EXPORT_MARKS
    reads = (options.ckpt, options.base, options.baseline, options.vocabulary_of, options.web_libraries)
    check_destination(options.out, overwrite=options.overwrite, marks=marks, reads=reads)


def _source(options: ExportOptions, base: BaseModel | None) -> tuple[Run, BaseModel | None]:
    """The run and its base; a saved shrunk model is a run without a base."""
    from finegates_export.pruning.shrunk_folder import is_shrunk, run_of
    from finegates_export.sources.assemble import base_of, check_base
    from finegates_export.sources.run_folder import read_run

    if is_shrunk(options.ckpt):
        return run_of(options.ckpt), None
    run = read_run(options.ckpt)
    if base is None:
        return run, base_of(run, options.base)
    check_base(run, base)
    return run, base


def _deliver(out: Path, job: ExportJob, scratch: Path, report: ExportReport, site: Site | None) -> None:
    options = job.options
    forms: list[Form] = ["float", *([form_of(options.quantize)] if options.quantize != "none" else [])]
    graphs = [scratch / GRAPH_FILES[form] for form in forms]
    if out.suffix == ".onnx":
        if len(graph_files(graphs[-1])) > 1:
            raise OutputError(
                f"{out}: {graph_bytes(graphs[-1]):,} bytes of weights do not fit one file; use --out FOLDER/"
            )
        with staged_file(out, overwrite=options.overwrite) as stage:
            shutil.move(graphs[-1], stage)
    elif options.target in PACKAGES:
        from finegates_export.deploy.triton import TritonOptions, write_repository

        bundle = scratch / "bundle"
        bundle.mkdir()
        _fill(bundle, job, graphs, report, None)
        threads, overwrite = options.threads, options.overwrite
        write_repository(TritonOptions(bundle=bundle, out=out, form=forms[-1], threads=threads, overwrite=overwrite))
    else:
        with staged_folder(out, overwrite=options.overwrite, marks=EXPORT_MARKS) as folder:
            _fill(folder, job, graphs, report, site)


def _fill(folder: Path, job: ExportJob, graphs: list[Path], report: ExportReport, site: Site | None) -> None:
    from finegates_export.pipeline.bundle.write import write_bundle

    options, run = job.options, job.run
    if job.vocabulary:
        words = graphs[0].parent / "tokenizer"
        words.mkdir()
        job.vocabulary.write_tokenizer(run.folder, words)
        run = dataclasses.replace(run, folder=words)
    if site is not None:
        site.write(folder)
        if options.baseline is not None:
            export(_unpruned(options, options.baseline, folder), job.base)
    write_bundle(
        folder,
        graphs,
        run,
        job.delivered_config(),
        report,
        onnx_folder=options.onnx_folder or options.target == web.NAME,
        pooled=options.pool_in_graph,
        generation=job.generation_files(),
        torch_model=(job.model, job.shrunk_info()) if options.torch else None,
    )


def _unpruned(options: ExportOptions, baseline: Path, folder: Path) -> ExportOptions:
    """How the unpruned model is exported beside the pruned one in a bundle's folder."""
    alone = dataclasses.replace(options, page=False, baseline=None, web_libraries=None, torch=False)
    return dataclasses.replace(alone, ckpt=baseline, out=folder / UNPRUNED_FOLDER)
