"""The verb `export`: run folder in, proven ONNX out."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from finegates_export.files import check_destination, scratch_folder, staged_file, staged_folder
from finegates_export.graph_forms import GRAPH_FILES, Form, form_of
from finegates_export.options import Options, check
from finegates_export.targets import TARGETS, web
from finegates_export.verification.chain import Tolerances

if TYPE_CHECKING:
    from finegates_export.export_job import ExportJob
    from finegates_export.export_report import ExportReport
    from finegates_export.families.base import BaseModel
    from finegates_export.gates.run_folder import Run
    from finegates_export.web.site import Site

BLOCK_SIZES = (16, 32, 64, 128, 256)
"""Those that onnxruntime's kernels know."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions(Options):
    """Options of one export."""

    ckpt: Path
    """The run folder, one of its levels, or a saved shrunk model."""
    out: Path | None = None
    """A file ending in .onnx for the graph alone, or a folder for a bundle."""
    base: str | None = None
    """Where the base model is now, if not where the run was trained."""
    target: Literal["ort-cpu", "portable", "ort-cuda", "tensorrt", "web"] = "ort-cpu"
    """What the graph is made for: onnxruntime's CPU kernels, standard operators alone, onnxruntime on NVIDIA GPUs in
    float16, TensorRT in float16, or onnxruntime-web in a browser, with a page."""
    quantize: Literal["auto", "none", "int8", "int8-static", "int4"] = "auto"
    """Beside the model in a bundle, instead of it in a file. `int8`: dynamic, per channel. `int8-static`: ranges of
    activations from the run's rows, as signed QDQ. `int4`: weights alone, in blocks. `auto`: int8 in a bundle for the
    web, none else."""
    int8_linears: Literal["auto", "all"] = "auto"
    """Dynamic int8: `auto` leaves linears in float that the table of costs measured on this machine says int8 slows
    down; `all` measures nothing."""
    block_size: int = 32
    """4-bit weights: inputs that share a scale; 16, 32, 64, 128 or 256."""
    opset: int | None = None
    """ONNX opset; default: the target's."""
    pool_in_graph: bool = False
    """Embeddings: let the graph pool, and normalise where the run says so; its output is `sentence_embedding`."""
    onnx_folder: bool = False
    """Put the graphs of a bundle under onnx/, where some clients look for them."""
    torch: bool = False
    """Put the shrunk torch model into the bundle too, as the folder `torch/`, to fine-tune it and export again."""
    page: bool = True
    """Target web: put a page into the bundle that runs the model, where the task is to label or score a text."""
    baseline: Path | None = None
    """Target web: a run with layout none, the unpruned model, to compare with on the page."""
    web_libraries: Path | None = None
    """Target web: a node_modules folder that holds @huggingface/transformers; what the page needs of it is copied."""
    gathers: Literal["auto", "always", "never"] = "auto"
    """Matrix layout: `auto` asks the table of costs measured on this machine whether a gather pays for closed dims."""
    tokens: int = 1024
    """Batch times sequence at which the table of costs is asked."""
    plan_only: bool = False
    """Print what would go and why, and write nothing."""
    min_agreement: float = 0.99
    """Share of equal predictions that the quantized model must keep."""
    max_metric_loss: float = 1.0
    """Points of the metric that the quantized model may lose."""
    overwrite: bool = False
    """Replace what is at --out."""
    seed: int = 0
    """Of the random inputs in the chain."""
    threads: int | None = None
    """Processor threads; default: the libraries' choice."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ckpt", Path(self.ckpt))
        for name in ("out", "baseline", "web_libraries"):
            given = getattr(self, name)
            object.__setattr__(self, name, Path(given) if given else None)
        check(self.out is not None or self.plan_only, "out", "is needed, unless --plan-only is given")
        check(self.target in TARGETS, "target", f"{self.target!r} is not one of {', '.join(TARGETS)}")
        single_file = self.out is not None and self.out.suffix == ".onnx"
        if self.quantize == "auto":
            object.__setattr__(self, "quantize", "int8" if self.target == web.NAME and not single_file else "none")
        forms = ("none", *TARGETS[self.target].INTEGERS)
        check(self.quantize in forms, "quantize", f"{self.quantize!r}: {self.target} takes {', '.join(forms)}")
        check(self.opset is None or 18 <= self.opset <= 20, "opset", f"must be 18, 19 or 20, got {self.opset}")
        check(self.tokens > 0, "tokens", f"must be positive, got {self.tokens}")
        check(self.threads is None or self.threads > 0, "threads", f"must be positive, got {self.threads}")
        for name in ("onnx_folder", "torch", "baseline", "web_libraries"):
            asked = getattr(self, name) and single_file
            check(not asked, name.replace("_", "-"), "applies to a bundle, and --out names a file")
        for name in ("baseline", "web_libraries"):
            wanted = self.target == web.NAME and self.page
            told = f"is for the page of --target {web.NAME}"
            check(getattr(self, name) is None or wanted, name.replace("_", "-"), told)
        known = self.gathers in ("auto", "always", "never")
        check(known, "gathers", f"{self.gathers!r} is none of auto, always, never")
        known = self.int8_linears in ("auto", "all")
        check(known, "int8-linears", f"{self.int8_linears!r} is neither auto nor all")
        sizes = ", ".join(map(str, BLOCK_SIZES))
        check(self.block_size in BLOCK_SIZES, "block-size", f"must be one of {sizes}, got {self.block_size}")
        self.tolerances()

    def tolerances(self) -> Tolerances:
        """What the chain may differ by."""
        return Tolerances(agreement=self.min_agreement, metric_points=self.max_metric_loss)


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
    """
    import torch

    from finegates_export.export_job import ExportJob
    from finegates_export.export_quantized import write_quantized
    from finegates_export.web.site import plan_site

    if options.out is not None and not options.plan_only:
        check_destination(options.out, overwrite=options.overwrite)
    if options.threads:
        torch.set_num_threads(options.threads)
    run, found = _source(options, base)
    site = plan_site(options, run)
    job = ExportJob(options, run, found)
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


def _source(options: ExportOptions, base: BaseModel | None) -> tuple[Run, BaseModel | None]:
    """The run and its base; a saved shrunk model is a run without a base."""
    from finegates_export.gates.assemble import base_of, check_base
    from finegates_export.gates.run_folder import read_run
    from finegates_export.shrunk import is_shrunk, run_of

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
        with staged_file(out, overwrite=options.overwrite) as stage:
            shutil.move(graphs[-1], stage)
        return
    from finegates_export.bundle import write_bundle

    with staged_folder(out, overwrite=options.overwrite) as folder:
        torch_model = (job.model, job.shrunk_info()) if options.torch else None
        if site is not None:
            site.write(folder, job.base)
        write_bundle(
            folder,
            graphs,
            job.run,
            job.config,
            report,
            onnx_folder=options.onnx_folder or options.target == web.NAME,
            pooled=options.pool_in_graph,
            torch_model=torch_model,
        )
