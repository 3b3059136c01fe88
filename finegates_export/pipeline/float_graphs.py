"""Writes and verifies the float forms of a shrunk model's graph: plain, fused for the target, as delivered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.common.graph_forms import GRAPH_FILES, graph_bytes
from finegates_export.pipeline.memory import Handed, collect_after, return_freed_memory
from finegates_export.pipeline.proof import DELIVERED_LINK
from finegates_export.pipeline.report import ModelSize

if TYPE_CHECKING:
    from finegates_export.graphs.writer import GraphWriter, Traced
    from finegates_export.pipeline.proof import Proof
    from finegates_export.pipeline.prune import Pruned

PLAIN, FUSED, HALF, DELIVERED = "plain.onnx", "fused.onnx", "half.onnx", GRAPH_FILES["float"]


@dataclass(frozen=True)
class FloatGraphs:
    """Files of one shrunk model's graph."""

    folder: Path
    pruned: Pruned
    """The plan of their model."""
    products: Mapping[str, str]
    """The product node of each linear in the plain graph, by the linear's path."""
    metadata: Mapping[str, str]
    """The metadata of a delivered file."""
    fused: Mapping[str, int]
    """Fused nodes by class."""
    after: ModelSize
    """The delivered graph."""

    @property
    def plain(self) -> Path:
        """The graph of plain operators, which quantization starts from."""
        return self.folder / PLAIN

    @property
    def delivered(self) -> Path:
        """The graph with only the delivered outputs."""
        return self.folder / DELIVERED


def write_float(
    traced: Handed[Traced], pruned: Pruned, writer: GraphWriter, metadata: Mapping[str, str], folder: Path
) -> FloatGraphs:
    """Write every float form, and keep none in memory.

    Args:
        traced: the traced graph, consumed here.
        pruned: the decisions on its model.
        writer: finishes the graph for its target.
        metadata: that of a delivered file.
        folder: an empty one.

    Raises:
        FusionError: the target's fusions found less than the family promises.
        UnsupportedError: a weight is too large for the target's float16.
    """
    from finegates_export.graphs.inspect import inspect_graph
    from finegates_export.graphs.passes.half import to_float16
    from finegates_export.graphs.saving import deliver_graph, save_graph

    # Decoders are large: a file that is only read back to be verified keeps its weights beside it.
    inside = 0 if writer.task.generates else None
    made = traced.take()
    graph, products = made.graph, made.products
    del made
    save_graph(graph, folder / PLAIN, inside=inside)
    graph = writer.finish(graph, pruned.plan)
    facts = inspect_graph(graph)
    save_graph(graph, folder / FUSED, inside=inside)
    half = writer.target.FLOAT == "float16"
    if half:
        graph = to_float16(graph)
        save_graph(graph, folder / HALF)
    del graph
    collect_after(pruned.before.size_bytes)
    deliver_graph(folder / (HALF if half else FUSED), folder / DELIVERED, writer.outputs(pruned.plan), dict(metadata))
    return_freed_memory()
    after = ModelSize(facts.parameters, graph_bytes(folder / DELIVERED))
    return FloatGraphs(folder, pruned, products, metadata, facts.fused, after)


def check_float(graphs: FloatGraphs, proof: Proof, target: str, *, half: bool) -> None:
    """Add the files to the chain.

    Args:
        graphs: of `write_float`.
        proof: of the source.
        target: the target of the graph.
        half: whether the delivered graph computes in float16.

    Raises:
        ChainError: a form does not compute what the gated model computes.
    """
    proof.add_file("ONNX, unoptimized", graphs.plain, optimize=False)
    proof.add_file(f"ONNX, {target}", graphs.folder / FUSED)
    if half:
        proof.add_file("float16", graphs.folder / HALF, exact=False)
    proof.add_file(DELIVERED_LINK, graphs.delivered, exact=not half)
