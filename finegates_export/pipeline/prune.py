"""From a source to the shrunk torch model, with each step compared with the gated model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from finegates_export.pipeline.report import ModelSize

if TYPE_CHECKING:
    from torch import nn

    from finegates_export.gates.gated_model import GatedModel
    from finegates_export.pipeline.proof import Proof
    from finegates_export.pipeline.source import Source
    from finegates_export.pruning.plan import ShrinkPlan
    from finegates_export.pruning.residual_sides import Judge
    from finegates_export.pruning.widths import Widths
    from finegates_export.sources.base import BaseModel
    from finegates_export.verification.precise import Forward


@dataclass(frozen=True)
class Pruned:
    """The decisions of pruning. They do not hold the model, which may be freed once its graph holds the weights."""

    plan: ShrinkPlan
    before: ModelSize
    """The unpruned model."""


def prune(source: Source, widths: Widths, gathers: Judge, proof: Proof | None) -> tuple[nn.Module, Pruned]:
    """Assemble, fold, plan and shrink; memory holds one form at a time.

    Args:
        source: what is exported.
        widths: those that the target prefers.
        gathers: decides which closed dims of the residual stream are gathered.
        proof: compares every form; None if only the plan is asked for.

    Returns:
        The shrunk torch model, and the decisions.

    Raises:
        ChainError: a step changed what the model computes.
        InputError: a tensor of the run does not fit the base, or is not finite.
        RunFolderError: the run was made for another family.
    """
    from finegates_export.pruning.planner import make_plan
    from finegates_export.pruning.residual_sides import residual_plans

    if source.base is None:
        return _saved(source, proof)
    folded, width = _folded(source, source.base, proof)
    plan = make_plan(folded, source.structure, widths)
    before = ModelSize.of_parameters(sum(parameter.numel() for parameter in folded.parameters()))
    if proof:
        proof.chain.add("folded", proof.forms.unpruned(folded, folded, width))
    model = _cut(folded, source, plan)
    plan = replace(plan, residual=residual_plans(model, source.structure, gathers))
    if proof:
        proof.chain.add("shrunk torch", proof.forms.shrunk(model, plan))
    return model, Pruned(plan, before)


def shrunk_again(source: Source, plan: ShrinkPlan) -> nn.Module:
    """The shrunk model of an earlier `prune`, made again if it was freed to save memory.

    Args:
        source: what is exported.
        plan: that call's plan.
    """
    if source.base is None:
        return _saved(source, None)[0]
    return _cut(_folded(source, source.base, None)[0], source, plan)


def run_reference(source: Source, proof: Proof) -> None:
    """Run what an export starts from, for other forms to be compared with: the gated model, or the saved shrunk one.

    Raises:
        ChainError: values are not finite.
        InputError: a tensor of the run does not fit the base, or is not finite.
        RunFolderError: the run was made for another family.
    """
    if source.base is None:
        _saved(source, proof)
    else:
        _gated(source, source.base, proof)


def _folded(source: Source, base: BaseModel, proof: Proof | None) -> tuple[nn.Module, tuple[int, ...] | None]:
    """The folded model, and the dims that a width gate kept."""
    from finegates_export.pruning.fold import fold

    gated = _gated(source, base, proof)
    width = gated.gates.open_width()
    return fold(gated), width


def _gated(source: Source, base: BaseModel, proof: Proof | None) -> GatedModel:
    from finegates_export.sources.assemble import assemble

    gated = assemble(source.run, base).gated
    if proof:
        forms = proof.forms
        proof.set_reference(forms.gated(gated), lambda: forms.gated(assemble(source.run, base).gated.double()))
    return gated


def _cut(folded: nn.Module, source: Source, plan: ShrinkPlan) -> nn.Module:
    """Shrink a folded model in place, its vocabulary too."""
    from finegates_export.pruning.shrink import shrink

    model = shrink(folded, source.structure, plan)
    if source.vocabulary:
        source.vocabulary.shorten(model)
    return model


def _saved(source: Source, proof: Proof | None) -> tuple[nn.Module, Pruned]:
    """A saved shrunk model is itself the reference."""
    from finegates_export.pruning.shrunk_folder import ATTRIBUTE, load_torch

    model = load_torch(source.run.folder).requires_grad_(False)
    info = getattr(model, ATTRIBUTE)
    if proof:
        forms = proof.forms

        def precise() -> Forward:
            return forms.shrunk(load_torch(source.run.folder).double(), info.plan, whole_vocabulary=True)

        proof.set_reference(forms.shrunk(model, info.plan, whole_vocabulary=True), precise)
    if source.vocabulary:
        source.vocabulary.shorten(model)
    return model, Pruned(info.plan, ModelSize.of_parameters(info.unpruned_parameters))
