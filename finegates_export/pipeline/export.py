"""The verb `export`: from a run folder to verified ONNX, stage by stage.

source -> shrunk -> traced -> float graphs -> quantized form -> delivered. Each stage is a function of immutable values;
only the chain of checks grows along the way.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.common.files import check_destination, scratch_folder, scratch_of
from finegates_export.deploy.web.site import UNPRUNED_FOLDER
from finegates_export.errors import (
    NOTHING_WRITTEN,
    ChainError,
    FormRefusedError,
    FusionError,
    InputError,
)
from finegates_export.graphs.targets import TARGETS, openvino
from finegates_export.pipeline.memory import Handed, Usage, collect_after
from finegates_export.runtime.bundle_files import EXPORT_MARKS
from finegates_export.runtime.signature import read_private_key

if TYPE_CHECKING:
    from torch import nn

    from finegates_export.graphs.writer import GraphWriter
    from finegates_export.pipeline.float_graphs import FloatGraphs
    from finegates_export.pipeline.openvino_form import OpenVinoForm
    from finegates_export.pipeline.options import ExportOptions
    from finegates_export.pipeline.proof import Proof
    from finegates_export.pipeline.prune import Pruned
    from finegates_export.pipeline.quantized_form import QuantizedForm
    from finegates_export.pipeline.report import ExportReport
    from finegates_export.pipeline.source import Source
    from finegates_export.pruning.slow_linears import FloatLinear
    from finegates_export.sources.base import BaseModel

    Page = Callable[[Path], None]
    """Writes the browser's page into a bundle's folder."""


def export(options: ExportOptions, base: BaseModel | None = None) -> ExportReport:
    """Fold, plan, shrink, write, fuse and, if asked, quantize a trained run; verify every step; deliver.

    Args:
        options: the export.
        base: the base, if the caller has found it already; a `SharedBase` is read once for many exports.

    Raises:
        RunFolderError: the run folder is missing, damaged, or belongs to another base.
        ChainError: a step changed what the model computes; nothing was written.
        FormRefusedError: the float bundle holds and was written; its quantized form was refused.
        FusionError: the target's fusions found less than the family promises.
        OutputError: the result cannot be written.
        UnsupportedError: the target does not serve the run's task.
    """
    usage = Usage()
    check_place(options)
    _check_inputs(options, base)  # before what takes seconds to import

    import torch

    from finegates_export.pipeline.bundle.metadata import graph_metadata
    from finegates_export.pipeline.deliver import Delivery
    from finegates_export.pipeline.float_graphs import check_float, write_float
    from finegates_export.pipeline.judges import gather_judge
    from finegates_export.pipeline.prune import prune

    if options.threads:
        torch.set_num_threads(options.threads)
    source, page = _find(options, base)
    writer = _writer(options, source)
    proof = _proof(options, source, writer.task_outputs)
    model: nn.Module | None
    model, pruned = prune(source, writer.target.WIDTHS, gather_judge(options), None if options.plan_only else proof)
    slow = _slow_linears(options, source, model, pruned)
    collect_after(pruned.before.size_bytes)
    report = _planned(source, writer, pruned, slow)
    if options.plan_only or options.out is None:
        return report.proven(proof.chain, usage.seconds, usage.peak_growth)
    with scratch_folder(options.out) as scratch:
        traced = Handed(writer.trace(model, pruned.plan))
        if not _needs_model(options, source):
            model = None  # the graph holds the weights now
        graphs = write_float(traced, pruned, writer, graph_metadata(source.run.info, pruned.plan), scratch)
        check_float(graphs, proof, writer.target.NAME, half=writer.target.FLOAT == "float16")
        quantized, refused = _quantized(options, source, model, slow, graphs, writer, proof)
        ir = _openvino(options, graphs, proof)
        report = dataclasses.replace(report, after=graphs.after, fused=dict(graphs.fused))
        report = dataclasses.replace(report, quantized=quantized, refused=refused, openvino=ir)
        report = report.proven(proof.chain, usage.seconds, usage.peak_growth)
        delivered = options.without_quantization() if refused else options
        report = Delivery(delivered, source, graphs, model, proof).put(report, page)
    if refused:
        raise FormRefusedError(f"{options.out}: {refused}")
    return report


def check_place(options: ExportOptions) -> None:
    """Fail before any work if the export could not be put into place.

    Raises:
        OutputError: see `check_destination`; an export never replaces its own inputs, nor a folder that is not an
        export.
        InputError: the key to sign with cannot be read.
        MissingExtraError: there is a key, and cryptography is not installed.
    """
    if options.out is None or options.plan_only:
        return
    from finegates_export.sources.run_folder import places_of_run

    if options.sign is not None:
        read_private_key(options.sign)
    marks = () if options.out.suffix == ".onnx" else EXPORT_MARKS
    runs = [place for one in (options.ckpt, options.baseline) if one for place in places_of_run(one)]
    reads = (*runs, options.sign, options.base, options.vocabulary_of, options.web_libraries)
    removes = (scratch_of(options.out),)
    check_destination(options.out, overwrite=options.overwrite, marks=marks, reads=reads, removes=removes)


def _check_inputs(options: ExportOptions, base: BaseModel | None) -> None:
    """Fail before any work if what the export reads is not there.

    Raises:
        InputError: the base is missing.
        RunFolderError: the run folder, or the baseline's, is missing or damaged.
    """
    from finegates_export.pruning.shrunk_folder import is_shrunk
    from finegates_export.sources.places import check_run_place
    from finegates_export.sources.run_folder import read_info

    if base is not None or is_shrunk(options.ckpt):
        return
    check_run_place(options.ckpt, options.base)
    if options.baseline is not None:
        read_info(options.baseline)
    if options.vocabulary_of is not None and not options.vocabulary_of.is_file():
        raise InputError(f"vocabulary-of: {options.vocabulary_of} does not exist; name a UTF-8 text or JSON lines")


def _find(options: ExportOptions, base: BaseModel | None) -> tuple[Source, Page | None]:
    """What is exported, and the page beside it. Options that do not fit the run are refused here."""
    from finegates_export.pipeline.refusals import check_request
    from finegates_export.pipeline.source import cut_vocabulary, find_source
    from finegates_export.sources.run_tokenizer import check_has_tokenizer

    source = find_source(options.ckpt, options.base, base)
    if options.out is not None and options.out.suffix != ".onnx" and not options.plan_only:
        check_has_tokenizer(source.run)
    page = _page(options, source)
    check_request(options, source)
    if options.vocabulary_of is not None:
        source = cut_vocabulary(source, options.vocabulary_of)
    return source, page


def _page(options: ExportOptions, source: Source) -> Page | None:
    """Writes the page, and the unpruned model beside it, into a bundle; None without a page."""
    from finegates_export.deploy.web.site import plan_site

    if not options.wants_page:
        return None
    site = plan_site(source.run, baseline=options.baseline, libraries=options.web_libraries)
    if site is None:
        return None

    def put(folder: Path) -> None:
        site.write(folder)
        if options.baseline is not None:
            alone = dataclasses.replace(options, page=False, baseline=None, web_libraries=None, torch=False, sign=None)
            unpruned = dataclasses.replace(alone, ckpt=options.baseline, out=folder / UNPRUNED_FOLDER)
            with contextlib.suppress(FormRefusedError):  # the page offers the forms that both models have
                export(unpruned, source.base)

    return put


def _writer(options: ExportOptions, source: Source) -> GraphWriter:
    from finegates_export.graphs.writer import GraphWriter

    target, opset, pooled = TARGETS[options.graph_target], options.opset, options.pool_in_graph
    return GraphWriter(source.family, source.config, source.task, target, opset, pooled)


def _proof(options: ExportOptions, source: Source, outputs: tuple[str, ...]) -> Proof:
    from finegates_export.pipeline.proof import Proof

    return Proof.of(source, options.tolerances(), outputs=outputs, seed=options.seed, threads=options.threads)


def _slow_linears(options: ExportOptions, source: Source, model: nn.Module, pruned: Pruned) -> tuple[FloatLinear, ...]:
    from finegates_export.pipeline.judges import int8_judge
    from finegates_export.pruning.slow_linears import slow_linears

    judge = int8_judge(options)
    return slow_linears(model, source.structure, pruned.plan.residual, judge) if judge else ()


def _planned(source: Source, writer: GraphWriter, pruned: Pruned, slow: tuple[FloatLinear, ...]) -> ExportReport:
    """The report of an export that has written nothing yet."""
    from finegates_export.pipeline.bundle.genai_files import genai_refusal
    from finegates_export.pipeline.report import ExportReport
    from finegates_export.pruning.cache_widths import shrunk_cache

    genai = genai_refusal(shrunk_cache(pruned.plan)) or "" if source.task.generates else None
    cut = source.vocabulary
    vocabulary = (cut.before, cut.size) if cut else None
    return ExportReport(pruned.plan, writer.target.NAME, pruned.before, slow=slow, genai=genai, vocabulary=vocabulary)


def _needs_model(options: ExportOptions, source: Source) -> bool:
    """Whether the torch model stays in memory beside its graph, to be delivered or to rank linears.

    Decoders are large and ranking is rare, so they are made again for it.
    """
    return options.torch or (options.quantize != "none" and not source.task.generates)


def _openvino(options: ExportOptions, graphs: FloatGraphs, proof: Proof) -> OpenVinoForm | None:
    from finegates_export.pipeline.openvino_graph import write_openvino

    if options.target != openvino.NAME:
        return None
    return write_openvino(graphs, proof, half_weights=options.openvino_weights == "float16")


def _quantized(
    options: ExportOptions,
    source: Source,
    model: nn.Module | None,
    slow: tuple[FloatLinear, ...],
    graphs: FloatGraphs,
    writer: GraphWriter,
    proof: Proof,
) -> tuple[QuantizedForm | None, str]:
    """The quantized form, and why there is none though it was asked for."""
    from finegates_export.pipeline.prune import shrunk_again
    from finegates_export.pipeline.quantize import Quantization, Quantizer

    if options.quantize == "none":
        return None, ""

    def shrunk_model() -> nn.Module:
        return shrunk_again(source, graphs.pruned.plan) if model is None else model

    wanted = Quantization(options.quantize, options.block_size, options.quantize_head, options.weight_bits)
    try:
        return Quantizer(wanted, graphs, writer, proof).write(slow, shrunk_model), ""
    except (ChainError, FusionError) as error:
        if not options.keeps_float:
            raise
        proof.chain.drop(wanted.form)
        return None, str(error).replace(NOTHING_WRITTEN, "the float graph was written alone")
