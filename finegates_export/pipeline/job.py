"""One export on its way: the model is used up step by step, so that memory holds one form at a time."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finegates_export.common.cache_layout import CacheLayout
from finegates_export.common.graph_forms import GRAPH_FILES, graph_bytes
from finegates_export.common.tasks import graph_outputs, task_of
from finegates_export.errors import ChainError, InputError, UnsupportedError
from finegates_export.graphs.targets import TARGETS
from finegates_export.pipeline.bundle.genai_files import genai_refusal
from finegates_export.pipeline.decoder_checks import check_cached
from finegates_export.pipeline.judges import gather_judge, int8_judge
from finegates_export.pipeline.memory import collect, peak_bytes, return_freed_memory
from finegates_export.pipeline.quantized_form import QuantizedForm
from finegates_export.pipeline.report import ExportReport, ModelSize
from finegates_export.pruning.cache_widths import shrunk_cache, unpruned_cache
from finegates_export.pruning.plan import ShrinkPlan
from finegates_export.verification.batches import inputs_for
from finegates_export.verification.chain import Chain

if TYPE_CHECKING:
    from finegates_export.pipeline.bundle.genai_files import GenerationFiles
    from finegates_export.pipeline.options import ExportOptions
    from finegates_export.pruning.shrunk_folder import ShrunkInfo
    from finegates_export.pruning.slow_linears import FloatLinear
    from finegates_export.pruning.vocabulary.cut import VocabularyCut
    from finegates_export.sources.base import BaseModel
    from finegates_export.sources.run_folder import Run
    from finegates_export.verification.chain import Link

PLAIN, FUSED, HALF, DELIVERED = "plain.onnx", "fused.onnx", "half.onnx", GRAPH_FILES["float"]
WORTH_COLLECTING = 32 << 20
"""Bytes of weights; a smaller model that lingers costs less than looking for it."""


@dataclass
class Outcome:
    """What a job has found out so far."""

    before: ModelSize | None = None
    after: ModelSize | None = None
    fused: dict[str, int] = dataclasses.field(default_factory=dict)
    quantized: QuantizedForm | None = None


class ExportJob:
    """An export of one run, or of one shrunk model that was saved.

    Args:
        options: the export.
        run: what is exported; a shrunk model as a run without gates.
        base: the run's base; None for a shrunk model.
    """

    def __init__(self, options: ExportOptions, run: Run, base: BaseModel | None) -> None:
        self.started, self.resident = time.perf_counter(), peak_bytes()
        self.options, self.run, self.base = options, run, base
        self.target = TARGETS[options.graph_target]
        self.task, self.pooling = task_of(run.info.task), run.info.pooled_by()
        if options.pool_in_graph and self.pooling is None:
            raise UnsupportedError(
                f"--pool-in-graph applies to embeddings, and {run.folder} is a run of the task {run.info.task}; leave "
                "it away"
            )
        if options.quantize == "int8-static" and not run.samples:
            raise InputError(
                f"quantize: int8-static takes the ranges of activations from the run's rows, and {run.folder} kept "
                "none (--samples 0); train with --samples, or use --quantize int8"
            )
        if self.task.generates:
            check_cached(options)
        for name in () if self.task.generates else ("vocabulary_of", "quantize_head"):
            if getattr(options, name):
                raise UnsupportedError(
                    f"--{name.replace('_', '-')} applies to text-generation, and {run.folder} is a run of the task "
                    f"{run.info.task}; leave it away"
                )
        self.outcome = Outcome()
        self.model: Any = None
        self.chain: Chain
        self.plan: ShrinkPlan
        self.vocabulary: VocabularyCut | None = None
        self.shortened = False
        """Whether the model's vocabulary was cut already; until then it is called with the new ids all the same."""
        self.slow: tuple[FloatLinear, ...] = ()
        """Linears that int8 would slow down."""
        self.products: dict[str, str] = {}
        """The product node of each linear in the plain graph, by the linear's path."""

    def prepare(self) -> None:
        """Have the shrunk model, its plan, and the links of the chain up to it."""
        if self.base is None:
            self._load_shrunk()
        else:
            self._shrink_run(self.base)
        self.slow = self._slow_linears()
        self.collect()

    def collect(self) -> None:
        """Free what earlier steps left behind, where the model is large enough to be missed."""
        if self.outcome.before and self.outcome.before.size_bytes >= WORTH_COLLECTING:
            collect()

    @property
    def layout(self) -> CacheLayout | None:
        """The cache of the shrunk model; None where the task has none."""
        return shrunk_cache(self.plan) if self.task.generates else None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Those of a delivered graph."""
        outputs = graph_outputs(self.task, pooled=self.options.pool_in_graph)
        return (*outputs, *self.layout.present_names) if self.layout else outputs

    def write(self, scratch: Path) -> None:
        """Write every form of the graph into `scratch`, then check each."""
        from finegates_export.graphs.inspect import inspect_graph
        from finegates_export.graphs.passes.gathers import add_gathers
        from finegates_export.graphs.passes.half import to_float16
        from finegates_export.graphs.products import linear_nodes
        from finegates_export.graphs.saving import deliver_graph, save_graph

        # Decoders are large: what is only read back to be checked keeps its weights beside it.
        inside = 0 if self.task.generates else None
        graph = self._trace()
        self.products = linear_nodes(graph, self._linears())
        add_gathers(graph, self.products, self.plan.residual)
        self._check_weights(graph)
        if not self.options.torch and (self.options.quantize == "none" or self.task.generates):
            self.model = None  # the graph has the weights now; where linears are ranked, a large one is made again
        save_graph(graph, scratch / PLAIN, inside=inside)
        graph = self.finish(graph)
        facts = inspect_graph(graph)
        self.outcome.fused = facts.fused
        save_graph(graph, scratch / FUSED, inside=inside)
        half = self.target.FLOAT == "float16"
        if half:
            graph = to_float16(graph)
            save_graph(graph, scratch / HALF)
        del graph
        self.collect()
        deliver_graph(scratch / (HALF if half else FUSED), scratch / DELIVERED, self.outputs, self.metadata())
        self.outcome.after = ModelSize(facts.parameters, graph_bytes(scratch / DELIVERED))
        return_freed_memory()
        self.check("ONNX, unoptimized", scratch / PLAIN, optimize=False)
        self.check(f"ONNX, {self.target.NAME}", scratch / FUSED)
        if half:
            self.check("float16", scratch / HALF, exact=False)
        self.check("ONNX, as delivered", scratch / DELIVERED, exact=not half)

    def shrunk_model(self) -> Any:
        """The shrunk torch model; made again where it was given up when the graph had its weights."""
        from finegates_export.pruning.fold import fold
        from finegates_export.pruning.shrink import shrink
        from finegates_export.pruning.shrunk_folder import load_torch
        from finegates_export.sources.assemble import assemble

        if self.model is None:
            if self.base is None:
                self.model = load_torch(self.run.folder).requires_grad_(False)
            else:
                self.model = fold(assemble(self.run, self.base).gated)
                shrink(self.model, self.structure, self.plan)
            self._shorten()
        return self.model

    def report(self) -> ExportReport:
        """What was done so far."""
        outcome = self.outcome
        return ExportReport(
            plan=self.plan,
            target=self.target.NAME,
            before=outcome.before or ModelSize.of_parameters(0),
            after=outcome.after,
            fused=outcome.fused,
            slow=self.slow,
            quantized=outcome.quantized,
            links=tuple(self.chain.links),
            rows=self.chain.rows,
            real_rows=self.chain.real_rows,
            seconds=time.perf_counter() - self.started,
            peak_memory_bytes=peak_bytes() - self.resident,
            genai=None if self.layout is None else genai_refusal(self.layout) or "",
            vocabulary=(self.vocabulary.before, self.vocabulary.size) if self.vocabulary else None,
        )

    def finish(self, graph: Any) -> Any:
        """A plain graph as the target's; changed in place."""
        if self.task.generates:
            return self.target.finish_cached(graph, self.plan.attention_layers)
        return self.target.finish(graph, self.expected_fusions())

    def torch_form(
        self, model: Any, plain: Any, dims: tuple[int, ...] | None = None, layout: CacheLayout | None = None
    ) -> Any:
        """A torch model as a link of the chain; see `verification.forms.torch_form`.

        Args:
            model: the model, gated or plain.
            plain: the plain one.
            dims: of vectors in the residual width those that a width gate left.
            layout: the cache of a decoder; default: the shrunk model's.
        """
        from finegates_export.verification.cached_forms import cached_torch_form
        from finegates_export.verification.cut_forms import seen_by
        from finegates_export.verification.forms import torch_form

        if self.task.generates:
            form = cached_torch_form(model, self.family.encoder(plain), layout or shrunk_cache(self.plan))
            return seen_by(self.vocabulary, form) if self.vocabulary and not self.shortened else form
        outputs = graph_outputs(self.task, pooled=self.pooling is not None)
        return torch_form(model, self.family.encoder(plain), self.names, outputs, dims)

    def check(self, name: str, path: Path, *, optimize: bool = True, exact: bool = True) -> Link:
        """Add a graph file to the chain."""
        from finegates_export.verification.cached_forms import cached_onnx_form
        from finegates_export.verification.forms import onnx_form

        threads = self.options.threads
        if self.task.generates:
            form: Any = cached_onnx_form(path, threads=threads, optimize=optimize)
        else:
            form = onnx_form(path, threads=threads, optimize=optimize)
        link = self.chain.add(name, form, exact=exact)
        del form
        return_freed_memory()
        return link

    def expected_fusions(self) -> dict[str, int]:
        """What the target's fusions must find."""
        return self.family.expected_fusions(self.config, self.plan.attention_layers, self.plan.feed_forward_layers)

    def metadata(self) -> dict[str, str]:
        """What a delivered file says of itself."""
        from finegates_export.pipeline.bundle.metadata import graph_metadata

        return graph_metadata(self.run.info, self.plan)

    def generation_files(self) -> GenerationFiles | None:
        """What a decoder's clients read; None for other tasks."""
        from finegates_export.pipeline.bundle.genai_files import GenerationFiles, generation_settings

        if not self.layout:
            return None
        settings = generation_settings(self._folders(), self.config)
        if self.vocabulary:
            settings = self.vocabulary.settings(settings)
        return GenerationFiles(self.delivered_config(), self.layout, settings, self.family.max_length(self.config))

    def delivered_config(self) -> Any:
        """The base's config, as the graph's clients read it."""
        return self.vocabulary.config(self.config) if self.vocabulary else self.config

    def shrunk_info(self) -> ShrunkInfo:
        """What the shrunk torch model is saved with."""
        from finegates_export.pruning.shrunk_folder import ShrunkInfo

        before = self.outcome.before.parameters if self.outcome.before else 0
        return ShrunkInfo(self.run.info, self.plan, before, self.run.folder)

    def _trace(self) -> Any:
        from finegates_export.graphs.trace import write_graph
        from finegates_export.graphs.trace_cached import write_cached_graph

        encoder = self.family.encoder(self.model)
        if not self.layout:
            opset = self.options.opset or self.target.OPSET
            return write_graph(self.model, encoder, self.names, opset, self.outputs, self._linears())
        opset = self.options.opset or self.target.CACHED_OPSET or self.target.OPSET
        return write_cached_graph(self.model, encoder, self.layout, opset, self._linears())

    def _describe(self, config: Any) -> None:
        from finegates_export.families import family_of

        self.config, self.family = config, family_of(config.model_type)
        self.structure = self.family.structure(config)
        self.names = self.family.input_names(config)
        self.vocabulary = self._cut_vocabulary()
        run, read = self.run, config
        if self.vocabulary:
            run = dataclasses.replace(run, samples=self.vocabulary.samples(run.samples))
            read = self.vocabulary.config(config)
        batches = inputs_for(run, self.family, read, self.options.seed)
        outputs = graph_outputs(self.task, pooled=self.options.pool_in_graph)
        self.chain = Chain(self.task.name, batches, self.options.tolerances(), outputs, self.pooling)

    def _cut_vocabulary(self) -> VocabularyCut | None:
        from finegates_export.pipeline.bundle.genai_files import generation_settings
        from finegates_export.pruning.vocabulary.cut import cut_to_text

        if self.options.vocabulary_of is None:
            return None
        settings = [generation_settings(self._folders(), self.config), self.config.to_dict()]
        return cut_to_text(self.options.vocabulary_of, self.run.folder, self.config.vocab_size, settings)

    def _shorten(self) -> None:
        """Cut the model's vocabulary, where it is to be cut."""
        if self.vocabulary:
            self.vocabulary.shorten(self.model)
            self.shortened = True

    def _folders(self) -> list[Path]:
        """Where a decoder's settings may lie."""
        return [self.run.folder, *([self.base.folder] if self.base else [])]

    def _shrink_run(self, base: BaseModel) -> None:
        from finegates_export.gates.gated_model import plain_model
        from finegates_export.pruning.fold import fold
        from finegates_export.pruning.planner import make_plan
        from finegates_export.pruning.residual_sides import residual_plans
        from finegates_export.pruning.shrink import shrink
        from finegates_export.sources.assemble import assemble

        assembled = assemble(self.run, base)
        self._describe(assembled.config)
        gated: Any = assembled.gated
        del assembled
        width = gated.gates.open_width()
        unpruned = unpruned_cache(self.structure)
        if not self.options.plan_only:
            self._set_reference(self.torch_form(gated, plain_model(gated.model), width, unpruned))
        self.model = fold(gated)
        del gated
        self.plan = make_plan(self.model, self.structure, self.target.WIDTHS)
        self.outcome.before = ModelSize.of_parameters(sum(p.numel() for p in self.model.parameters()))
        if not self.options.plan_only:
            self.chain.add("folded", self.torch_form(self.model, self.model, width, unpruned))
        shrink(self.model, self.structure, self.plan)
        self._shorten()
        residual = residual_plans(self.model, self.structure, gather_judge(self.options))
        self.plan = dataclasses.replace(self.plan, residual=residual)
        if not self.options.plan_only:
            self.chain.add("shrunk torch", self.torch_form(self.model, self.model))

    def _load_shrunk(self) -> None:
        from finegates_export.pruning.shrunk_folder import ATTRIBUTE, load_torch

        self.model = load_torch(self.run.folder).requires_grad_(False)
        info = getattr(self.model, ATTRIBUTE)
        self.plan = info.plan
        self._describe(self.model.config)
        self.outcome.before = ModelSize.of_parameters(info.unpruned_parameters)
        if not self.options.plan_only:
            self._set_reference(self.torch_form(self.model, self.model))
        self._shorten()

    def _set_reference(self, form: Any) -> None:
        from finegates_export.verification.prompts import written_by

        if self.task.generates:
            self.chain.batches += written_by(form, self.chain.batches, self.family.max_length(self.config))
        self.chain.set_reference(form)

    def _slow_linears(self) -> tuple[FloatLinear, ...]:
        from finegates_export.pruning.slow_linears import slow_linears

        judge = int8_judge(self.options)
        return slow_linears(self.model, self.structure, self.plan.residual, judge) if judge else ()

    def _linears(self) -> list[str]:
        """The paths of the layers' linears that the plan left."""
        from torch import nn

        modules = dict(self.model.named_modules())
        return [path for path in self.structure.linears() if isinstance(modules.get(path), nn.Linear)]

    def _check_weights(self, graph: Any) -> None:
        nodes = {node.name: node for node in graph.graph}
        found = sum(nodes[name].inputs[1].const_value.size for name in self.products.values())
        if found != self.plan.kept_weights:
            raise ChainError(
                f"the graph holds {found:,} linear weights, the plan says {self.plan.kept_weights:,}; nothing was "
                "written. This is a defect, please report it with the run"
            )
