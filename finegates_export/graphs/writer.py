"""Writes a shrunk model as a target's graph: traced with its linears marked, then finished for the target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finegates_export.common.tasks import Task, graph_outputs
from finegates_export.errors import ChainError
from finegates_export.families.model_config import ModelConfig
from finegates_export.families.modules import kept_linear
from finegates_export.pruning.cache_widths import shrunk_cache

if TYPE_CHECKING:
    import onnx_ir
    from torch import nn

    from finegates_export.families.family import Family
    from finegates_export.graphs.targets.target import Target
    from finegates_export.pruning.plan import ShrinkPlan


@dataclass(frozen=True)
class Traced:
    """A graph of plain operators."""

    graph: onnx_ir.Model
    products: Mapping[str, str]
    """The product node of each linear of the layers, by the linear's path."""


@dataclass(frozen=True)
class GraphWriter:
    """Writes shrunk models of one base for one target."""

    family: Family
    config: ModelConfig
    """The base's transformers config."""
    task: Task
    target: Target
    opset: int | None = None
    """None for the target's."""
    pooled: bool = False
    """Whether the graph pools the sentence embedding itself."""

    @property
    def task_outputs(self) -> tuple[str, ...]:
        """A delivered graph's outputs, without a decoder's cache."""
        return graph_outputs(self.task, pooled=self.pooled)

    def outputs(self, plan: ShrinkPlan) -> tuple[str, ...]:
        """A delivered graph's outputs, in order."""
        cache = shrunk_cache(plan).present_names if self.task.generates else ()
        return (*self.task_outputs, *cache)

    def trace(self, model: nn.Module, plan: ShrinkPlan) -> Traced:
        """The graph in plain operators, with closed dims gathered if the plan says so.

        Args:
            model: the shrunk model.
            plan: how it was shrunk.

        Raises:
            ChainError: the graph lacks a linear, or its weights differ from the plan.
        """
        from finegates_export.graphs.passes.gathers import add_gathers
        from finegates_export.graphs.products import linear_nodes

        linears = self._linears(model)
        graph = self._traced(model, plan, linears)
        products = linear_nodes(graph, linears)
        add_gathers(graph, products, plan.residual)
        traced = Traced(graph, products)
        _check_weights(traced, plan)
        return traced

    def finish(self, graph: onnx_ir.Model, plan: ShrinkPlan) -> onnx_ir.Model:
        """Turn a plain graph into the target's; the plain one is consumed.

        Args:
            graph: of plain operators, quantized or not.
            plan: how its model was shrunk.

        Raises:
            FusionError: the target's fusions found less than the family promises.
        """
        from finegates_export.graphs.passes.graph_pass import run_passes

        if self.task.generates:
            return run_passes(graph, self.target.cached_passes(plan.attention_layers))
        counts = plan.attention_layers, plan.feed_forward_layers
        return run_passes(graph, self.target.passes(self.family.expected_fusions(self.config, *counts)))

    def _traced(self, model: nn.Module, plan: ShrinkPlan, linears: list[str]) -> onnx_ir.Model:
        from finegates_export.graphs.trace import write_graph
        from finegates_export.graphs.trace_cached import write_cached_graph

        encoder = self.family.encoder(model)
        if self.task.generates:
            opset = self.opset or self.target.CACHED_OPSET or self.target.OPSET
            return write_cached_graph(model, encoder, shrunk_cache(plan), opset, linears)
        names = self.family.input_names(self.config)
        opset = self.opset or self.target.OPSET
        return write_graph(model, encoder, names, opset, self.outputs(plan), linears)

    def _linears(self, model: nn.Module) -> list[str]:
        """Paths of the layers' linears that the plan keeps."""
        paths = self.family.structure(self.config).linears()
        return [path for path in paths if kept_linear(model, path) is not None]


def _check_weights(traced: Traced, plan: ShrinkPlan) -> None:
    from finegates_export.graphs.values import weight_of

    nodes = {node.name: node for node in traced.graph.graph}
    found = sum(weight_of(nodes[name].inputs[1]).size for name in traced.products.values())
    if found != plan.kept_weights:
        raise ChainError(
            f"the graph holds {found:,} linear weights, the plan says {plan.kept_weights:,}; nothing was written. "
            "This is a defect, please report it with the run"
        )
