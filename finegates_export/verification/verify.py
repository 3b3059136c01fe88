"""The verb `verify`: an exported graph or bundle against the run it was made from, at any later time."""

from __future__ import annotations

from pathlib import Path

from finegates_export.errors import InputError
from finegates_export.verification.chain import Link, Tolerances


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
        ckpt: the run folder.
        exported: a bundle, whose files are checked against their hashes too, or an ONNX file.
        base: where the base model is now, if not where the run was trained.
        tolerances: what the graphs may differ by.
        threads: processor threads.

    Raises:
        ChainError: a graph does not compute what the run computes.
        InputError: not a bundle or an ONNX file, or a file of it was changed.
        RunFolderError: the run folder cannot be used.
    """
    from finegates_export.cache_layout import CacheLayout
    from finegates_export.gates.assemble import assemble, base_of
    from finegates_export.gates.gated_model import plain_model
    from finegates_export.gates.run_folder import read_run
    from finegates_export.onnx.inspect import inspect_file
    from finegates_export.tasks import graph_outputs, task_of
    from finegates_export.verification.batches import inputs_for
    from finegates_export.verification.cached_forms import cached_onnx_form, cached_torch_form
    from finegates_export.verification.chain import Chain
    from finegates_export.verification.forms import onnx_form, torch_form
    from finegates_export.verification.prompts import written_by

    graphs = _graphs(Path(exported))
    run = read_run(Path(ckpt))
    assembled = assemble(run, base_of(run, base))
    family, config, model = assembled.family, assembled.config, plain_model(assembled.gated.model)
    task, pooling = task_of(run.info.task), run.info.pooled_by()
    chain = Chain(task.name, inputs_for(run, family, config), tolerances or Tolerances(), pooling=pooling)
    encoder = family.encoder(model)
    if task.generates:
        unpruned = CacheLayout.of_structure(family.structure(config))
        gated = cached_torch_form(assembled.gated, encoder, unpruned)
        chain.batches += written_by(gated, chain.batches, family.max_length(config))
        chain.set_reference(gated)
    else:
        outputs = graph_outputs(task, pooled=pooling is not None)
        width = assembled.gated.gates.open_width()
        chain.set_reference(torch_form(assembled.gated, encoder, family.input_names(config), outputs, width))
    for graph in graphs:
        opened = cached_onnx_form if task.generates else onnx_form
        chain.add(graph.name, opened(graph, threads=threads), exact=inspect_file(graph).exact)
    return tuple(chain.links)


def _graphs(exported: Path) -> list[Path]:
    if exported.is_dir():
        from finegates_export.runtime.bundle_files import read_bundle

        return [exported / name for name in read_bundle(exported)["graphs"]]
    if not exported.is_file():
        raise InputError(f"{exported} is neither a bundle nor an ONNX file")
    return [exported]
