"""The verb `verify`: compares an exported graph or bundle with the run it was made from, at any later time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.common.cache_layout import INPUTS, PAST
from finegates_export.common.tasks import LOGITS
from finegates_export.errors import InputError
from finegates_export.verification.link import Link, Tolerances

if TYPE_CHECKING:
    from finegates_export.pipeline.proof import Proof
    from finegates_export.pipeline.source import Source


def verify(
    ckpt: str | Path,
    exported: str | Path,
    *,
    base: str | None = None,
    tolerances: Tolerances | None = None,
    threads: int | None = None,
) -> tuple[Link, ...]:
    """Run the gated model and every exported graph on the same inputs.

    Args:
        ckpt: the run folder, or the folder of a shrunk torch model that was exported.
        exported: a bundle, whose files are checked against their hashes too, or an ONNX file.
        base: where the base model is now, if it has moved since training; a shrunk model has none.
        tolerances: how far the graphs may differ.
        threads: CPU threads.

    Raises:
        ChainError: a graph does not compute what the run computes.
        InputError: not a bundle or an ONNX file, a file of it was changed, or it was made from a run of another task,
            of other labels or of another vocabulary.
        RunFolderError: the run folder cannot be used.
    """
    from finegates_export.graphs.inspect import inspect_file
    from finegates_export.pipeline.proof import Proof
    from finegates_export.pipeline.prune import run_reference
    from finegates_export.pipeline.source import find_source
    from finegates_export.pruning.vocabulary.cut import cut_again
    from finegates_export.runtime.bundle_files import read_bundle

    place = Path(exported)
    graphs, vocabulary = _graphs(place)
    source = find_source(Path(ckpt), base)
    for graph in graphs:
        _check_made_from(graph, source, vocabulary)
    if vocabulary is not None:
        cut = cut_again(source.run.folder, place, source.config.vocab_size, vocabulary)
        source = replace(source, vocabulary=cut)
    proof = Proof.of(source, tolerances or Tolerances(), threads=threads)
    run_reference(source, proof)
    for graph in graphs:
        proof.add_file(graph.name, graph, exact=inspect_file(graph).exact)
    if place.is_dir():
        proof.add_texts(place, read_bundle(place), graphs[0], exact=inspect_file(graphs[0]).exact)
        _add_openvino(place, proof)
    return tuple(proof.chain.links)


def _add_openvino(exported: Path, proof: Proof) -> None:
    """Add a bundle's IR, in every precision that it was proven in and this processor computes in."""
    from finegates_export.runtime.bundle_files import read_bundle
    from finegates_export.runtime.openvino_session import OpenVinoGraph, has_bfloat16

    told = read_bundle(exported).get("openvino") if exported.is_dir() else None
    if told is None:
        return
    ir = OpenVinoGraph.of(exported, told)
    for precision in ir.precisions:
        if precision == "float32" or has_bfloat16():
            exact = precision == "float32" and ir.weights == "float32"
            proof.add_ir(f"{ir.path.name}, {precision}", ir.path, precision, exact=exact)


def _graphs(exported: Path) -> tuple[list[Path], int | None]:
    """The graph files, and their number of tokens; None if the vocabulary was not cut."""
    if exported.is_dir():
        from finegates_export.runtime.bundle_files import read_bundle

        info = read_bundle(exported)
        cut = info.get("report", {}).get("vocabulary")
        return [exported / name for name in info["graphs"]], None if cut is None else cut[1]
    if not exported.is_file():
        raise InputError(f"{exported} is neither a bundle nor an ONNX file")
    return [exported], None


def _check_made_from(graph: Path, source: Source, vocabulary: int | None) -> None:
    """Fail if a graph cannot have been made from this run, whatever it computes.

    Args:
        graph: the file.
        source: the run.
        vocabulary: its number of tokens, if the vocabulary was cut.
    """
    from finegates_export.pipeline.bundle.metadata import METADATA_PREFIX
    from finegates_export.runtime.session import open_session

    session, info = open_session(graph, optimize=False), source.run.info
    told = session.get_modelmeta().custom_metadata_map
    remedy = f"and {source.run.folder} is not what it was made from; name the run that was exported"
    task = told.get(f"{METADATA_PREFIX}task", info.task)
    if task != info.task:
        raise InputError(f"{graph} is for the task {task}, not {info.task}, {remedy}")
    labels = json.loads(told.get(f"{METADATA_PREFIX}labels", json.dumps(info.labels)))
    if labels != list(info.labels):
        raise InputError(f"{graph} has the labels {', '.join(labels)}, not {', '.join(info.labels)}, {remedy}")
    names = [value.name for value in session.get_inputs() if not value.name.startswith(PAST)]
    inputs = INPUTS if source.task.generates else source.family.input_names(source.config)
    strange = [name for name in names if name not in inputs]
    if strange:
        raise InputError(f"{graph} reads {strange[0]}, not {', '.join(inputs)}, {remedy}")
    if source.task.generates:
        tokens = source.config.vocab_size if vocabulary is None else vocabulary
        width = next((value.shape[-1] for value in session.get_outputs() if value.name == LOGITS), None)
        if width != tokens:
            raise InputError(
                f"{graph} has logits of {width} tokens, not {tokens}, {remedy}, or the whole bundle where it was made "
                "with --vocabulary-of"
            )
