"""The verb `export`: run folder in, proven ONNX out."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from finegates_export.errors import ChainError, FusionError
from finegates_export.export_report import ExportReport, ModelSize
from finegates_export.files import check_destination, scratch_folder, staged_file, staged_folder
from finegates_export.options import Options, check
from finegates_export.plan import ShrinkPlan
from finegates_export.targets import TARGETS
from finegates_export.verification.chain import Chain, Tolerances

if TYPE_CHECKING:
    from finegates_export.families.base import BaseModel
    from finegates_export.gates.run_folder import Run

PLAIN, FUSED, DELIVERED = "plain.onnx", "fused.onnx", "model.onnx"
QUANTIZED_PLAIN, QUANTIZED_FUSED, QUANTIZED = "plain_int8.onnx", "fused_int8.onnx", "model_quantized.onnx"

MOST_EXCLUDED = 0.5
"""Share of the linears that int8 may leave in float before the export gives up."""
RANKING_BATCHES = 6


@dataclass(frozen=True, kw_only=True)
class ExportOptions(Options):
    """Options of one export."""

    ckpt: Path
    """The run folder, or one of its levels."""
    out: Path | None = None
    """A file ending in .onnx for the graph alone, or a folder for a bundle."""
    base: str | None = None
    """Where the base model is now, if not where the run was trained."""
    target: Literal["ort-cpu"] = "ort-cpu"
    """What the graph is made for."""
    quantize: Literal["none", "int8"] = "none"
    """`int8`: dynamic, per channel, beside the float32 model in a bundle, instead of it in a file."""
    opset: int | None = None
    """ONNX opset; default: the target's."""
    onnx_folder: bool = False
    """Put the graphs of a bundle under onnx/, where some clients look for them."""
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
        object.__setattr__(self, "out", Path(self.out) if self.out else None)
        check(self.out is not None or self.plan_only, "out", "is needed, unless --plan-only is given")
        check(self.target in TARGETS, "target", f"{self.target!r} is not one of {', '.join(TARGETS)}")
        check(self.quantize in ("none", "int8"), "quantize", f"{self.quantize!r} is neither none nor int8")
        check(self.opset is None or 18 <= self.opset <= 20, "opset", f"must be 18, 19 or 20, got {self.opset}")
        check(self.threads is None or self.threads > 0, "threads", f"must be positive, got {self.threads}")
        single_file = self.out is not None and self.out.suffix == ".onnx"
        check(not (self.onnx_folder and single_file), "onnx-folder", "applies to a bundle, and --out names a file")
        self.tolerances()

    def tolerances(self) -> Tolerances:
        """What the chain may differ by."""
        return Tolerances(agreement=self.min_agreement, metric_points=self.max_metric_loss)


def export(options: ExportOptions, base: BaseModel | None = None) -> ExportReport:
    """Fold, plan, shrink, write, fuse and, if asked, quantize a trained run; prove every step; deliver.

    Args:
        options: the export.
        base: the base, where the caller has found it already.

    Raises:
        RunFolderError: the run folder is missing, damaged, or belongs to another base.
        ChainError: a step changed what the model computes; nothing was written.
        FusionError: the target's fusions found less than the family promises.
        OutputError: the result cannot be written.
    """
    import torch

    from finegates_export.gates.assemble import base_of
    from finegates_export.gates.run_folder import read_run

    if options.out is not None and not options.plan_only:
        check_destination(options.out, overwrite=options.overwrite)
    if options.threads:
        torch.set_num_threads(options.threads)
    started, resident = time.perf_counter(), _peak_bytes()
    run = read_run(options.ckpt)
    job = _Job(options, run, base or base_of(run, options.base))
    job.fold_and_plan()
    if options.plan_only or options.out is None:
        return job.report(started, resident)
    with scratch_folder(options.out) as scratch:
        job.write(scratch)
        report = job.report(started, resident)
        _deliver(options.out, job, scratch, report)
    return report


class _Job:
    """One export on its way: the model is used up step by step so that memory holds one form at a time."""

    def __init__(self, options: ExportOptions, run: Run, base: BaseModel) -> None:
        from finegates_export.gates.assemble import assemble
        from finegates_export.verification.inputs import make_inputs

        self.options, self.run, self.base = options, run, base
        self.target = TARGETS[options.target]
        assembled = assemble(run, base)
        self.family, self.structure, self.config = assembled.family, assembled.structure, assembled.config
        self.gated: Any = assembled.gated
        self.names = self.family.input_names(self.config)
        longest = self.config.max_position_embeddings
        batches = make_inputs(run.samples, self.names, self.config.vocab_size, longest, options.seed)
        self.chain = Chain(run.info.task, batches, options.tolerances())
        self.model: Any = None
        self.plan: ShrinkPlan
        self.before: ModelSize
        self.after: ModelSize | None = None
        self.fused: dict[str, int] = {}
        self.integer_products = 0
        self.left_in_float: tuple[str, ...] = ()

    def fold_and_plan(self) -> None:
        """Reference outputs, folding, and the plan; with `plan_only` nothing but the plan."""
        from finegates_export.fold import fold
        from finegates_export.gates.gated_model import plain_model
        from finegates_export.planner import make_plan

        if not self.options.plan_only:
            self.chain.set_reference(self._torch_form(self.gated, plain_model(self.gated.model)))
        self.model = fold(self.gated)
        self.gated = None
        self.plan = make_plan(self.model, self.structure, self.target.WIDTHS)
        self.before = ModelSize.of_parameters(sum(p.numel() for p in self.model.parameters()))

    def write(self, scratch: Path) -> None:
        """Shrink, write every form of the graph into `scratch`, then check each."""
        from finegates_export.onnx.inspect import inspect_graph
        from finegates_export.onnx.write import save_graph, without_hidden_state, write_graph
        from finegates_export.shrink import shrink

        self.chain.add("folded", self._torch_form(self.model, self.model))
        shrink(self.model, self.structure, self.plan)
        _return_freed_memory()
        self.chain.add("shrunk torch", self._torch_form(self.model, self.model))
        graph = write_graph(
            self.model, self.family.encoder(self.model), self.names, self.options.opset or self.target.OPSET
        )
        if self.options.quantize == "none":
            self.model = None  # the graph has the weights now; int8 may still rank the linears
        save_graph(graph, scratch / PLAIN)
        graph = self.target.finish(graph, self._expected_fusions())
        facts = inspect_graph(graph)
        self._check_weights(facts.encoder_weights)
        self.fused = facts.fused
        save_graph(graph, scratch / FUSED)
        save_graph(without_hidden_state(graph), scratch / DELIVERED, self._metadata())
        self.after = ModelSize(facts.parameters, (scratch / DELIVERED).stat().st_size)
        del graph
        _return_freed_memory()
        self._check("ONNX, unoptimized", scratch / PLAIN, optimize=False)
        self._check(f"ONNX, {self.target.NAME}", scratch / FUSED)
        self._check("ONNX, as delivered", scratch / DELIVERED)
        if self.options.quantize == "int8":
            self._write_int8(scratch)

    def _write_int8(self, scratch: Path) -> None:
        """Quantize all linears; where the chain does not hold then, leave the most sensitive ones in float."""
        ranked: list[str] = []
        excluded = 0
        while True:
            try:
                self._quantize(scratch, ranked[:excluded])
            except ChainError:
                ranked = ranked or self._sensitive_linears()
                excluded = max(1, excluded * 2)
                if excluded > len(ranked) * MOST_EXCLUDED:
                    raise
                self.chain.drop("int8")
            else:
                return

    def _quantize(self, scratch: Path, exclude: list[str]) -> None:
        from finegates_export.onnx.inspect import inspect_graph
        from finegates_export.onnx.quantize import load_graph, product_nodes, quantize_dynamic_int8
        from finegates_export.onnx.write import save_graph, without_hidden_state

        nodes = product_nodes(load_graph(scratch / PLAIN), self._weights(exclude)) if exclude else {}
        quantize_dynamic_int8(scratch / PLAIN, scratch / QUANTIZED_PLAIN, list(nodes.values()))
        graph = self.target.finish(load_graph(scratch / QUANTIZED_PLAIN), self._expected_fusions())
        self.integer_products, self.left_in_float = inspect_graph(graph).integer_products, tuple(exclude)
        wanted = len(self._linears()) - len(exclude)
        if self.integer_products != wanted:
            raise FusionError(
                f"quantization made {self.integer_products} integer products of {wanted} linears; nothing was "
                "written. Install the versions of constraints.txt"
            )
        save_graph(graph, scratch / QUANTIZED_FUSED)
        save_graph(without_hidden_state(graph), scratch / QUANTIZED, self._metadata())
        del graph
        self._check("int8, fused", scratch / QUANTIZED_FUSED, exact=False)
        self._check("int8, as delivered", scratch / QUANTIZED, exact=False)

    def _sensitive_linears(self) -> list[str]:
        from finegates_export.onnx.sensitivity import rank_by_sensitivity

        every = max(1, len(self.chain.batches) // RANKING_BATCHES)
        inputs = [batch.inputs for batch in self.chain.batches[::every]]
        return rank_by_sensitivity(self.model, self._linears(), self._torch_form(self.model, self.model), inputs)

    def _linears(self) -> list[str]:
        """The layers' linears that the plan left."""
        from torch import nn

        return [path for path in self.structure.linears() if isinstance(_submodule(self.model, path), nn.Linear)]

    def _weights(self, paths: list[str]) -> dict[str, Any]:
        return {path: self.model.get_submodule(path).weight.detach().numpy() for path in paths}

    def report(self, started: float, resident: int) -> ExportReport:
        """What was done so far."""
        quantized = self.options.quantize == "int8" and self.after is not None
        return ExportReport(
            plan=self.plan,
            target=self.target.NAME,
            before=self.before,
            after=self.after,
            fused=self.fused,
            integer_products=self.integer_products if quantized else None,
            left_in_float=self.left_in_float,
            links=tuple(self.chain.links),
            rows=self.chain.rows,
            real_rows=self.chain.real_rows,
            seconds=time.perf_counter() - started,
            peak_memory_bytes=_peak_bytes() - resident,
        )

    def _torch_form(self, model: Any, plain: Any) -> Any:
        from finegates_export.verification.forms import torch_form

        return torch_form(model, self.family.encoder(plain), self.names)

    def _check(self, name: str, path: Path, *, optimize: bool = True, exact: bool = True) -> None:
        from finegates_export.verification.forms import onnx_form

        form = onnx_form(path, threads=self.options.threads, optimize=optimize)
        self.chain.add(name, form, exact=exact)

    def _check_weights(self, found: int) -> None:
        if found != self.plan.kept_weights:
            raise ChainError(
                f"the graph holds {found:,} linear weights, the plan says {self.plan.kept_weights:,}; nothing was "
                "written. This is a defect, please report it with the run"
            )

    def _expected_fusions(self) -> dict[str, int]:
        return self.family.expected_fusions(self.config, self.plan.attention_layers, self.plan.feed_forward_layers)

    def _metadata(self) -> dict[str, str]:
        from finegates_export.bundle import graph_metadata

        return graph_metadata(self.run.info, self.plan)


def _deliver(out: Path, job: _Job, scratch: Path, report: ExportReport) -> None:
    quantized = job.options.quantize == "int8"
    if out.suffix == ".onnx":
        with staged_file(out, overwrite=job.options.overwrite) as stage:
            shutil.move(scratch / (QUANTIZED if quantized else DELIVERED), stage)
        return
    from finegates_export.bundle import write_bundle

    graphs = [scratch / DELIVERED, *([scratch / QUANTIZED] if quantized else [])]
    with staged_folder(out, overwrite=job.options.overwrite) as folder:
        write_bundle(folder, graphs, job.run, job.base, job.config, report, onnx_folder=job.options.onnx_folder)


def _submodule(model: Any, path: str) -> Any:
    """A module by path; None where shrinking removed it with its parent."""
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


def _return_freed_memory() -> None:
    """Give freed weights back to the system: glibc keeps blocks of their size, and the peak would count them twice."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library has its own ways
        ctypes.CDLL(None).malloc_trim(0)


def _peak_bytes() -> int:
    """Peak resident memory of this program so far.

    Linux tells it per program; getrusage (in KiB there) also counts what the parent held before it started this one.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        fields = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
