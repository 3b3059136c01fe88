"""The verb `verify`: an exported graph or bundle against the run it was made from, at any later time."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finegates_export.common.cache_layout import INPUTS, PAST, CacheLayout
from finegates_export.common.tasks import LOGITS, Task, graph_outputs, task_of
from finegates_export.errors import InputError
from finegates_export.pruning.cache_widths import shrunk_cache, unpruned_cache
from finegates_export.verification.chain import Link, Tolerances

if TYPE_CHECKING:
    from finegates_export.families.family import Family
    from finegates_export.sources.run_folder import Run


@dataclass(frozen=True)
class Original:
    """What an export was made from."""

    run: Run
    """A shrunk model as a run without gates."""
    model: Any
    """The gated model, or the shrunk one."""
    plain: Any
    """The transformers model in it."""
    family: Family
    config: Any
    cache: CacheLayout | None
    """None where the task has none."""
    dims: tuple[int, ...] | None
    """Dims of the residual width that a width gate left; None: all."""

    @property
    def task(self) -> Task:
        """What was trained."""
        return task_of(self.run.info.task)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What its graphs read, the cache apart."""
        return INPUTS if self.task.generates else self.family.input_names(self.config)


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
        base: where the base model is now, if not where the run was trained; a shrunk model has none.
        tolerances: what the graphs may differ by.
        threads: processor threads.

    Raises:
        ChainError: a graph does not compute what the run computes.
        InputError: not a bundle or an ONNX file, a file of it was changed, or it was made from a run of another task,
            of other labels or of another vocabulary.
        RunFolderError: the run folder cannot be used.
    """
    from finegates_export.graphs.inspect import inspect_file
    from finegates_export.pruning.vocabulary.cut import cut_again
    from finegates_export.verification.batches import inputs_for
    from finegates_export.verification.cached_forms import cached_onnx_form, cached_torch_form
    from finegates_export.verification.chain import Chain
    from finegates_export.verification.cut_forms import seen_by
    from finegates_export.verification.forms import onnx_form, torch_form
    from finegates_export.verification.prompts import written_by

    place = Path(exported)
    graphs, vocabulary = _graphs(place)
    original = _original(Path(ckpt), base)
    run, family, task, config = original.run, original.family, original.task, original.config
    for graph in graphs:
        _check_made_from(graph, original, vocabulary)
    cut = None if vocabulary is None else cut_again(run.folder, place, config.vocab_size, vocabulary)
    if cut is not None:
        run, config = dataclasses.replace(run, samples=cut.samples(run.samples)), cut.config(config)
    pooling = run.info.pooled_by()
    chain = Chain(task.name, inputs_for(run, family, config), tolerances or Tolerances(), pooling=pooling)
    encoder = family.encoder(original.plain)
    if original.cache:
        gated = cached_torch_form(original.model, encoder, original.cache)
        gated = gated if cut is None else seen_by(cut, gated)
        chain.batches += written_by(gated, chain.batches, family.max_length(config))
        chain.set_reference(gated)
    else:
        outputs = graph_outputs(task, pooled=pooling is not None)
        chain.set_reference(torch_form(original.model, encoder, original.inputs, outputs, original.dims))
    for graph in graphs:
        opened = cached_onnx_form if task.generates else onnx_form
        chain.add(graph.name, opened(graph, threads=threads), exact=inspect_file(graph).exact)
    return tuple(chain.links)


def _graphs(exported: Path) -> tuple[list[Path], int | None]:
    """The graphs' files, and how many tokens are left to them; None where none was cut away."""
    if exported.is_dir():
        from finegates_export.runtime.bundle_files import read_bundle

        info = read_bundle(exported)
        cut = info.get("report", {}).get("vocabulary")
        return [exported / name for name in info["graphs"]], None if cut is None else cut[1]
    if not exported.is_file():
        raise InputError(f"{exported} is neither a bundle nor an ONNX file")
    return [exported], None


def _original(ckpt: Path, base: str | None) -> Original:
    from finegates_export.families import family_of
    from finegates_export.gates.gated_model import plain_model
    from finegates_export.pruning.shrunk_folder import is_shrunk, load_torch, read_shrunk, run_of
    from finegates_export.sources.assemble import assemble, base_of
    from finegates_export.sources.run_folder import read_run

    if is_shrunk(ckpt):
        run = run_of(ckpt)
        model: Any = load_torch(ckpt).requires_grad_(False)
        cache = shrunk_cache(read_shrunk(ckpt).plan) if task_of(run.info.task).generates else None
        return Original(run, model, model, family_of(model.config.model_type), model.config, cache, None)
    run = read_run(ckpt)
    assembled = assemble(run, base_of(run, base))
    gated, family, config = assembled.gated, assembled.family, assembled.config
    cache = unpruned_cache(family.structure(config)) if task_of(run.info.task).generates else None
    return Original(run, gated, plain_model(gated.model), family, config, cache, gated.gates.open_width())


def _check_made_from(graph: Path, original: Original, vocabulary: int | None) -> None:
    """Fail where a graph cannot have been made from this run, whatever it computes.

    Args:
        graph: the file.
        original: the run.
        vocabulary: tokens that are left to it, where some were cut away.
    """
    from finegates_export.pipeline.bundle.metadata import METADATA_PREFIX
    from finegates_export.runtime.session import open_session

    session, info = open_session(graph, optimize=False), original.run.info
    told = session.get_modelmeta().custom_metadata_map
    remedy = f"and {original.run.folder} is not what it was made from; name the run that was exported"
    task = told.get(f"{METADATA_PREFIX}task", info.task)
    if task != info.task:
        raise InputError(f"{graph} is for the task {task}, not {info.task}, {remedy}")
    labels = json.loads(told.get(f"{METADATA_PREFIX}labels", json.dumps(info.labels)))
    if labels != list(info.labels):
        raise InputError(f"{graph} has the labels {', '.join(labels)}, not {', '.join(info.labels)}, {remedy}")
    names = [value.name for value in session.get_inputs() if not value.name.startswith(PAST)]
    strange = [name for name in names if name not in original.inputs]
    if strange:
        raise InputError(f"{graph} reads {strange[0]}, not {', '.join(original.inputs)}, {remedy}")
    if original.task.generates:
        tokens = original.config.vocab_size if vocabulary is None else vocabulary
        width = next((value.shape[-1] for value in session.get_outputs() if value.name == LOGITS), None)
        if width != tokens:
            raise InputError(
                f"{graph} has logits of {width} tokens, not {tokens}, {remedy}, or the whole bundle where it was made "
                "with --vocabulary-of"
            )
