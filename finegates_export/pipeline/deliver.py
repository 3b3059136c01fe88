"""The last stage: put finished graphs into place, as a file, a bundle or a model repository."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.common.files import staged_file, staged_folder
from finegates_export.common.graph_forms import GRAPH_FILES, IR_FILE, Form, form_of, graph_bytes, graph_files
from finegates_export.errors import OutputError
from finegates_export.graphs.targets import PACKAGES, TARGETS, web
from finegates_export.runtime.bundle_files import EXPORT_MARKS
from finegates_export.runtime.signature import read_private_key

if TYPE_CHECKING:
    from torch import nn

    from finegates_export.pipeline.bundle.genai_files import GenerationFiles
    from finegates_export.pipeline.bundle.write import Content
    from finegates_export.pipeline.float_graphs import FloatGraphs
    from finegates_export.pipeline.options import ExportOptions
    from finegates_export.pipeline.proof import Proof
    from finegates_export.pipeline.report import ExportReport
    from finegates_export.pipeline.source import Source
    from finegates_export.pruning.plan import ShrinkPlan


@dataclass(frozen=True)
class Delivery:
    """What is put into place, and how."""

    options: ExportOptions
    source: Source
    graphs: FloatGraphs
    """The float graphs, the quantized one in the same folder; delivered files are moved from there."""
    model: nn.Module | None
    """The shrunk torch model, if it is delivered too."""
    proof: Proof

    def put(self, report: ExportReport, page: Callable[[Path], None] | None) -> ExportReport:
        """Put the export into place; it appears whole or not at all.

        Args:
            report: the export's outcome so far.
            page: puts the browser's page into a bundle's folder; None for none.

        Returns:
            The report with the last link: texts, read as the bundle's users read theirs.

        Raises:
            ChainError: the bundle reads a text otherwise than training did.
            OutputError: it cannot be written there.
        """
        options, out = self.options, self.options.out
        if out is None:
            raise OutputError("there is no place to deliver to; name one with --out")
        if out.suffix == ".onnx":
            _deliver_file(self._files[-1], out, overwrite=options.overwrite)
            return report
        if options.target in PACKAGES:
            bundle = self.graphs.folder / "bundle"
            bundle.mkdir()
            report = self._fill(bundle, report)
            _write_repository(options, bundle, out, self._forms[-1])
            return report
        with staged_folder(out, overwrite=options.overwrite, marks=EXPORT_MARKS) as folder:
            if page is not None:
                page(folder)
            return self._fill(folder, report)

    @property
    def _forms(self) -> list[Form]:
        quantized = self.options.quantize != "none"
        return ["float", *([form_of(self.options.quantize)] if quantized else [])]

    @property
    def _files(self) -> list[Path]:
        return [self.graphs.folder / GRAPH_FILES[form] for form in self._forms]

    def _fill(self, folder: Path, report: ExportReport) -> ExportReport:
        """Write a bundle, read texts with it, and seal it with the report that includes them."""
        from finegates_export.pipeline.bundle.check_rows import write_check_rows
        from finegates_export.pipeline.bundle.write import record, seal, write_files

        options, content = self.options, self._content(report)
        paths = write_files(folder, content, onnx_folder=options.onnx_folder or options.target == web.NAME)
        half = TARGETS[options.graph_target].FLOAT == "float16"
        self.proof.add_texts(folder, record(content, paths), folder / paths[0], exact=not half)
        report = replace(report, links=tuple(self.proof.chain.links))
        check = write_check_rows(folder, record(content, paths), paths, half=half, threads=options.threads)
        key = None if options.sign is None else read_private_key(options.sign)
        seal(folder, replace(content, report=report), paths, check, key)
        return report

    def _content(self, report: ExportReport) -> Content:
        from finegates_export.pipeline.bundle.write import Content
        from finegates_export.pruning.shrunk_folder import ShrunkInfo

        source, pruned, run = self.source, self.graphs.pruned, self.source.run
        if source.vocabulary:
            words = self.graphs.folder / "tokenizer"
            words.mkdir()
            source.vocabulary.write_tokenizer(run.companions(), words)
            run = replace(run, folder=words)
        info = ShrunkInfo(source.run.info, pruned.plan, pruned.before.parameters, source.run.folder)
        return Content(
            run,
            source.delivered_config,
            report,
            tuple(self._files),
            text=source.text_inputs,
            pooled=self.options.pool_in_graph,
            openvino=self.graphs.folder / IR_FILE if report.openvino else None,
            generation=_generation_files(source, pruned.plan),
            torch_model=None if self.model is None or not self.options.torch else (self.model, info),
        )


def _deliver_file(graph: Path, out: Path, *, overwrite: bool) -> None:
    if len(graph_files(graph)) > 1:
        raise OutputError(f"{out}: {graph_bytes(graph):,} bytes of weights do not fit one file; use --out FOLDER/")
    with staged_file(out, overwrite=overwrite) as stage:
        shutil.move(graph, stage)


def _write_repository(options: ExportOptions, bundle: Path, out: Path, form: Form) -> None:
    from finegates_export.deploy.triton import TritonOptions, write_repository

    threads, overwrite = options.threads, options.overwrite
    write_repository(TritonOptions(bundle=bundle, out=out, form=form, threads=threads, overwrite=overwrite))


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
