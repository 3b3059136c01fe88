"""Saves graphs as files that are reproducible to the byte."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.common.graph_forms import DATA_SUFFIX
from finegates_export.graphs.one_file import write_one_file
from finegates_export.graphs.products import LINEAR
from finegates_export.graphs.values import weight_of

if TYPE_CHECKING:
    import onnx_ir

INSIDE_LIMIT = 2_000_000_000
"""Most bytes of weights inside a file: protobuf's limit is 2 GiB."""


def keep_outputs(graph: onnx_ir.Model, outputs: tuple[str, ...]) -> onnx_ir.Model:
    """The graph with only these outputs, in this order, as it is delivered."""
    from finegates_export.graphs.passes.graph_pass import run_passes
    from finegates_export.graphs.passes.keep_outputs import KeepOutputs

    return run_passes(graph, [KeepOutputs(outputs)])


def save_graph(
    graph: onnx_ir.Model, path: Path, metadata: dict[str, str] | None = None, *, inside: int | None = None
) -> None:
    """Write a graph with its weights: inside the file if they fit, else in `<path>.data` beside it.

    Args:
        graph: what to write; stripped of its metadata.
        path: the file.
        metadata: the model's metadata properties, for servers.
        inside: most bytes of weights inside the file; default: `INSIDE_LIMIT`.
    """
    import onnx_ir

    strip(graph)
    graph.metadata_props.update(metadata or {})
    weight_bytes = sum(weight_of(value).nbytes for value in graph.graph.initializers.values())
    if weight_bytes < (INSIDE_LIMIT if inside is None else inside):
        write_one_file(graph, path)
    else:
        onnx_ir.save(graph, path, external_data=path.name + DATA_SUFFIX)


def deliver_graph(source: Path, path: Path, outputs: tuple[str, ...], metadata: dict[str, str]) -> None:
    """Write a saved graph with some of its outputs, as `save_graph` does.

    Args:
        source: the file, its weights inside or beside it.
        path: the file to write.
        outputs: those to keep, in order.
        metadata: see `save_graph`.
    """
    import onnx_ir

    save_graph(keep_outputs(onnx_ir.load(source), outputs), path, metadata)


def strip(graph: onnx_ir.Model, *, keep_linears: bool = False) -> None:
    """Remove doc strings and metadata: exported nodes carry stack traces with the paths of this machine.

    Args:
        graph: changed in place.
        keep_linears: leave the property `LINEAR` where nodes have it; files never do.
    """
    import onnx_ir.passes.common as passes

    marked = [
        (node, node.metadata_props[LINEAR]) for node in graph.graph if keep_linears and LINEAR in node.metadata_props
    ]
    passes.ClearMetadataAndDocStringPass()(graph)
    graph.metadata_props.clear()
    for value in (*graph.graph.inputs, *graph.graph.outputs, *graph.graph.initializers.values()):
        value.metadata_props.clear()
    for node in graph.graph:
        for value in node.outputs:
            value.metadata_props.clear()
    for node, path in marked:
        node.metadata_props[LINEAR] = path
