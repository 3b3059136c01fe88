"""Writes an export's quantized form: all linears, or all but those that are better kept in float."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.common.graph_forms import GRAPH_FILES, Form, form_of, graph_bytes
from finegates_export.errors import ChainError, FusionError
from finegates_export.pipeline.memory import collect_after
from finegates_export.pipeline.quantized_form import QuantizedForm
from finegates_export.pruning.slow_linears import FloatLinear

if TYPE_CHECKING:
    import onnx_ir
    from torch import nn

    from finegates_export.graphs.writer import GraphWriter
    from finegates_export.pipeline.float_graphs import FloatGraphs
    from finegates_export.pipeline.proof import Proof
    from finegates_export.pipeline.sensitivity import Simulation

QUANTIZED_PLAIN, QUANTIZED_FUSED = "plain_quantized.onnx", "fused_quantized.onnx"

MOST_EXCLUDED = 0.5
"""Largest share of the linears that may stay in float to save the predictions, before the export fails."""
RANKING_BATCHES = 6


@dataclass(frozen=True)
class Quantization:
    """The settings of a quantized form."""

    name: str
    """The value of `--quantize`."""
    block_size: int
    """Of 4-bit weights: the number of inputs that share a scale."""
    head: bool
    """Whether the LM head is quantized too."""
    bits: int
    """Of an integer weight: 7 or 8."""

    @property
    def form(self) -> Form:
        """The form that they give."""
        return form_of(self.name)

    @property
    def integer(self) -> bool:
        """Whether any weight is one of `bits`."""
        return self.form == "int8" or self.head


@dataclass(frozen=True)
class Quantizer:
    """Writes the quantized form beside the float graphs, and verifies it."""

    wanted: Quantization
    graphs: FloatGraphs
    writer: GraphWriter
    proof: Proof

    def write(self, slow: Sequence[FloatLinear], model: Callable[[], nn.Module]) -> QuantizedForm:
        """Quantize all linears but the slow ones; if the chain then fails, keep the most sensitive in float too.

        Args:
            slow: linears that int8 would slow down.
            model: makes the shrunk torch model, called only if linears must be ranked.

        Raises:
            ChainError: predictions or the metric change too much, whatever stays in float.
            FusionError: fewer products of quantized weights than linears.
        """
        ranked: list[str] = []
        excluded = 0
        while True:
            try:
                return self._attempt(slow, ranked[:excluded])
            except ChainError:
                ranked = ranked or self._by_sensitivity(model(), slow)
                excluded = max(1, excluded * 2)
                if excluded > len(ranked) * MOST_EXCLUDED:
                    raise
                self.proof.chain.drop(self.wanted.form)

    def _attempt(self, slow: Sequence[FloatLinear], sensitive: Sequence[str]) -> QuantizedForm:
        form = self.wanted.form
        why = f"stays in float: with it in {form} predictions change too much"
        left = (*slow, *(FloatLinear(path, why) for path in sensitive))
        delivered = self.graphs.folder / GRAPH_FILES[form]
        products = self._write_files(left, delivered)
        before = self.proof.chain.links[-1]
        self.proof.add_file(f"{form}, fused", self.graphs.folder / QUANTIZED_FUSED, exact=False)
        after = self.proof.add_file(f"{form}, as delivered", delivered, exact=False)
        size = graph_bytes(delivered)
        return QuantizedForm(
            self.wanted.name,
            products,
            left,
            size,
            before.metric,
            after.metric,
            after.agreement,
            self.proof.chain.metric,
            after.agreed,
            self.wanted.head,
            weight_bits=self.wanted.bits if self.wanted.integer else None,
        )

    def _write_files(self, left: Sequence[FloatLinear], delivered: Path) -> int:
        """Write the fused and the delivered graph, and return the number of quantized products."""
        from finegates_export.graphs.passes.half import to_float16
        from finegates_export.graphs.products import load_graph
        from finegates_export.graphs.quantization.head import quantize_head
        from finegates_export.graphs.saving import keep_outputs, save_graph

        source = self.graphs.folder / QUANTIZED_PLAIN
        self._quantize_plain(source, [self.graphs.products[one.linear] for one in left])
        graph = load_graph(source)
        if self.wanted.head:
            quantize_head(graph, self.wanted.bits)
        graph = self.writer.finish(graph, self.graphs.pruned.plan)
        found = self._count(graph, len(self.graphs.products) - len(left))
        if self.writer.target.FLOAT == "float16":
            graph = to_float16(graph)
        save_graph(graph, self.graphs.folder / QUANTIZED_FUSED)
        outputs = self.writer.outputs(self.graphs.pruned.plan)
        save_graph(keep_outputs(graph, outputs), delivered, dict(self.graphs.metadata))
        del graph
        collect_after(self.graphs.pruned.before.size_bytes)
        return found

    def _count(self, graph: onnx_ir.Model, wanted: int) -> int:
        from finegates_export.graphs.inspect import inspect_graph

        facts, form = inspect_graph(graph), self.wanted.form
        found = facts.blockwise_products if form == "int4" else facts.integer_products
        if found != wanted:
            raise FusionError(
                f"quantization made {found} {form} products of {wanted} linears; nothing was written. Install the "
                "versions of constraints.txt"
            )
        return found

    def _quantize_plain(self, target: Path, left: list[str]) -> None:
        """Write the plain graph with all products quantized, except the nodes named in `left`."""
        from finegates_export.graphs.quantization.int4 import FLOAT_STEPS, INTEGER_STEPS, quantize_int4
        from finegates_export.graphs.quantization.int8 import quantize_dynamic_int8, quantize_static_int8

        source, products = self.graphs.plain, [*self.graphs.products.values()]
        if self.wanted.name == "int4":
            level = INTEGER_STEPS if self.writer.target.FLOAT == "float32" else FLOAT_STEPS
            quantize_int4(source, target, products, left, block_size=self.wanted.block_size, accuracy_level=level)
        elif self.wanted.name == "int8-static":
            rows = [batch.inputs for batch in self.proof.chain.batches if batch.real]
            quantize_static_int8(source, target, products, rows, left, self.wanted.bits)
        else:
            quantize_dynamic_int8(source, target, products, left, self.wanted.bits)

    def _by_sensitivity(self, model: nn.Module, slow: Sequence[FloatLinear]) -> list[str]:
        """The linears that are not yet in float, the most sensitive first."""
        from finegates_export.pipeline.sensitivity import rank_by_sensitivity

        chain = self.proof.chain
        every = max(1, len(chain.batches) // RANKING_BATCHES)
        inputs = [batch.inputs for batch in chain.batches[::every]]
        form = self.proof.forms.shrunk(model, self.graphs.pruned.plan)
        in_float = {left.linear for left in slow}
        linears = [path for path in self.graphs.products if path not in in_float]
        return rank_by_sensitivity(model, linears, form, inputs, chain.outputs, self._simulation())

    def _simulation(self) -> Simulation:
        from finegates_export.pipeline.sensitivity import blockwise_int4, integers

        wanted = self.wanted
        return blockwise_int4(wanted.block_size) if wanted.form == "int4" else integers(wanted.bits)
