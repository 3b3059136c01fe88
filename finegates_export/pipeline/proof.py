"""Runs each form of a source's model, and the chain of checks that compares every form with the gated model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.common.tasks import graph_outputs
from finegates_export.pipeline.memory import return_freed_memory
from finegates_export.pruning.cache_widths import shrunk_cache, unpruned_cache
from finegates_export.verification.chain import Chain
from finegates_export.verification.link import Link, Tolerances
from finegates_export.verification.precise import Forward

if TYPE_CHECKING:
    from torch import nn

    from finegates_export.common.cache_layout import CacheLayout
    from finegates_export.common.files import JsonObject
    from finegates_export.gates.gated_model import GatedModel
    from finegates_export.pipeline.source import Source
    from finegates_export.pruning.plan import ShrinkPlan
    from finegates_export.runtime.openvino_session import Computed


DELIVERED_LINK = "ONNX, as delivered"
TEXTS_LINK = "texts, as delivered"


@dataclass(frozen=True)
class Forms:
    """Forms of a source's model as functions from inputs to outputs."""

    source: Source
    threads: int | None = None
    """CPU threads of onnxruntime; None for its own choice."""

    def gated(self, gated: GatedModel) -> Forward:
        """The gated model, as training left it."""
        from finegates_export.gates.gated_model import plain_model

        return self.unpruned(gated, plain_model(gated.model), gated.gates.open_width())

    def unpruned(self, model: nn.Module, plain: nn.Module, width: tuple[int, ...] | None) -> Forward:
        """A model with all units and all tokens.

        Args:
            model: the model to call.
            plain: the transformers model in it.
            width: the dims of the residual stream that a width gate kept; None for all.
        """
        return self._torch(model, plain, unpruned_cache(self.source.structure), width, whole_vocabulary=True)

    def shrunk(self, model: nn.Module, plan: ShrinkPlan, *, whole_vocabulary: bool = False) -> Forward:
        """The shrunk torch model.

        Args:
            model: the model.
            plan: how it was shrunk.
            whole_vocabulary: whether it still has the tokens that will be cut.
        """
        return self._torch(model, model, shrunk_cache(plan), None, whole_vocabulary=whole_vocabulary)

    def file(self, path: Path, *, optimize: bool = True) -> Forward:
        """An ONNX file in onnxruntime.

        Args:
            path: the file.
            optimize: False runs the graph as it is written.
        """
        from finegates_export.verification.cached_forms import cached_onnx_form
        from finegates_export.verification.forms import onnx_form

        opened = cached_onnx_form if self.source.task.generates else onnx_form
        return opened(path, threads=self.threads, optimize=optimize)

    def ir(self, path: Path, precision: Computed) -> Forward:
        """An IR in OpenVINO.

        Args:
            path: its XML file.
            precision: what it computes in.
        """
        from finegates_export.verification.forms import openvino_form

        return openvino_form(path, precision, threads=self.threads)

    def _torch(
        self,
        model: nn.Module,
        plain: nn.Module,
        cache: CacheLayout,
        width: tuple[int, ...] | None,
        *,
        whole_vocabulary: bool,
    ) -> Forward:
        from finegates_export.verification.cached_forms import cached_torch_form
        from finegates_export.verification.cut_forms import seen_by
        from finegates_export.verification.forms import torch_form

        source, encoder = self.source, self.source.family.encoder(plain)
        if source.task.generates:
            form = cached_torch_form(model, encoder, cache)
            return seen_by(source.vocabulary, form) if source.vocabulary and whole_vocabulary else form
        outputs = graph_outputs(source.task, pooled=source.pooling is not None)
        return torch_form(model, encoder, source.family.input_names(source.config), outputs, width)


@dataclass(frozen=True)
class Proof:
    """The chain of one source. Stages add links to it; nothing else changes."""

    chain: Chain
    forms: Forms

    @classmethod
    def of(
        cls,
        source: Source,
        tolerances: Tolerances,
        *,
        outputs: tuple[str, ...] = (),
        seed: int = 0,
        threads: int | None = None,
    ) -> Proof:
        """A chain without links.

        Args:
            source: the source to verify.
            tolerances: how far a link may differ.
            outputs: those that every form must return; default: the task's.
            seed: seed of the random rows.
            threads: CPU threads of onnxruntime.
        """
        info = source.run.info
        batches = source.batches(seed)
        chain = Chain(info.task, batches, tolerances, outputs, source.pooling, metric=info.metric, labels=info.labels)
        return cls(chain, Forms(source, threads))

    def set_reference(self, form: Forward, precise: Callable[[], Forward] | None = None) -> None:
        """Run the gated model; a decoder also writes the texts that every form is compared on.

        Args:
            form: the gated model.
            precise: makes it in float64; see `Chain.set_reference`.

        Raises:
            ChainError: an output is missing, or values are not finite.
        """
        from finegates_export.verification.prompts import written_by
        from finegates_export.verification.steps import CachedForm

        if isinstance(form, CachedForm):
            source = self.forms.source
            self.chain.batches += written_by(form, self.chain.batches, source.family.max_length(source.config))
        self.chain.set_reference(form, precise)

    def add_file(self, name: str, path: Path, *, optimize: bool = True, exact: bool = True) -> Link:
        """Add a graph file to the chain.

        Args:
            name: the link's.
            path: the file.
            optimize: False runs the graph as it is written.
            exact: compare it within the float32 tolerance, else by predictions and metric.

        Raises:
            ChainError: it differs by more than the tolerance.
        """
        link = self.chain.add(name, self.forms.file(path, optimize=optimize), exact=exact)
        return_freed_memory()
        return link

    def add_ir(self, name: str, path: Path, precision: Computed, *, exact: bool) -> Link:
        """Add an OpenVINO IR to the chain.

        Args:
            name: the link's.
            path: its XML file.
            precision: what it computes in.
            exact: compare it within the float32 tolerance, else by predictions and metric.

        Raises:
            ChainError: it differs by more than the tolerance.
        """
        return self.chain.add(name, self.forms.ir(path, precision), exact=exact)

    def add_texts(self, folder: Path, record: JsonObject, graph: Path, *, exact: bool) -> None:
        """Add the run's texts, read as users of a bundle read theirs.

        Args:
            folder: the bundle, or what will be one.
            record: the content of its `bundle.json`.
            graph: its float graph.
            exact: see `add_file`.

        Raises:
            ChainError: a text is read otherwise than in training, or its outputs differ by more than the tolerance.
        """
        from finegates_export.verification.client_files import check_clients
        from finegates_export.verification.delivered_texts import delivered_texts

        if any(batch.texts for batch in self.chain.batches):
            check_clients(folder, self.chain.batches, self.forms.source.task)
            read = delivered_texts(folder, record, graph, self.forms.source.task)
            self.chain.add_texts(TEXTS_LINK, read, self.forms.file(graph), exact=exact, behind=DELIVERED_LINK)
            return_freed_memory()
