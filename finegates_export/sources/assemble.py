"""From a run folder and a base model back to the gated model that was trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.errors import InputError, RunFolderError
from finegates_export.families.family import Family
from finegates_export.families.model_config import ModelConfig
from finegates_export.families.modules import linear_at
from finegates_export.families.structure import Structure
from finegates_export.gates.adapter import load_adapter
from finegates_export.gates.gated_model import GatedModel
from finegates_export.gates.layout import WIDTH_GATE
from finegates_export.gates.stored_adapter import CONFIG_FILE, StoredAdapter, read_adapter
from finegates_export.sources.base import BaseModel, find_base
from finegates_export.sources.run_folder import Run, RunInfo

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass
class Assembled:
    """A gated model in evaluation mode, with its description."""

    gated: GatedModel
    family: Family
    structure: Structure
    config: ModelConfig


def base_of(run: Run, override: str | None = None) -> BaseModel:
    """The base a run was trained on, verified by its hashes.

    Args:
        run: the run.
        override: where the base is now, if it has moved since training.

    Raises:
        InputError: the base cannot be found.
        RunFolderError: its tensors differ from those the run was trained on.
    """
    base = find_base_of(run.info, override)
    check_base(run, base)
    return base


def find_base_of(info: RunInfo, override: str | None = None) -> BaseModel:
    """The base a run names, unverified.

    Args:
        info: the run's record.
        override: where the base is now, if it has moved since training.

    Raises:
        InputError: the base cannot be found.
    """
    try:
        return find_base(override or info.base_id, None if override else info.base_revision)
    except InputError as error:
        raise InputError(f"{error}. The run was trained on {info.base_id}; pass --base to say where it is") from error


def check_base(run: Run, base: BaseModel) -> None:
    """Refuse a base that the run was not trained on.

    Raises:
        RunFolderError: its tensors differ from those the run was trained on.
    """
    hashes = base.tensor_hashes()
    expected = run.info.base_tensors
    if hashes != expected:
        names = sorted(name for name in set(hashes) | set(expected) if hashes.get(name) != expected.get(name))
        raise RunFolderError(
            f"{base.id} is not the base this run was trained on: {len(names)} of {len(expected)} tensors differ "
            f"(first: {names[0]}). Pass the right base with --base"
        )


def assemble(run: Run, base: BaseModel) -> Assembled:
    """Load the base and put the run's head, adapter and gates onto it.

    Raises:
        InputError: a tensor of the run does not fit the base, or is not finite.
        RunFolderError: the run was made for another family.
    """
    import torch

    config = base.config()
    family = base.family()
    if family.name != run.info.family:
        raise RunFolderError(f"the run was trained for family {run.info.family!r}, {base.id} is {family.name!r}")
    model = base.load(run.info.task, run.info.labels, run.info.pooled_by())
    load_head(model, run.head)
    structure = family.structure(config)
    for name in structure.linears():
        if not bool(torch.isfinite(linear_at(model, name).weight).all()):
            raise InputError(f"base weight {name} holds NaN or infinite values; the model cannot be exported")
    wrapped = load_adapter(model, _adapter_of_run(run.adapter)) if run.adapter else model
    gated = GatedModel(wrapped, structure, run.info.layout, width=WIDTH_GATE in run.gates)
    gated.gates.load_vectors(run.gates)
    return Assembled(gated.eval(), family, structure, config)


def _adapter_of_run(folder: Path) -> StoredAdapter:
    """A run's adapter; training writes the names of its modules."""
    stored = read_adapter(folder)
    if stored.pattern:
        raise InputError(
            f"{folder / CONFIG_FILE}: target_modules is a pattern, but a run's adapter names its modules in a list; "
            "restore the run folder or train again"
        )
    return stored


def load_head(model: nn.Module, head: dict[str, Tensor]) -> None:
    """Copy head and bias tensors into a plain model, by name.

    Raises:
        InputError: a tensor does not exist in the model, has another shape, or values that are not finite.
    """
    import torch

    parameters = dict(model.named_parameters())
    for name, tensor in head.items():
        if name not in parameters:
            raise InputError(f"head tensor {name} does not exist in the base model")
        if parameters[name].shape != tensor.shape:
            raise InputError(
                f"head tensor {name} has shape {tuple(tensor.shape)}, "
                f"but the model needs {tuple(parameters[name].shape)}"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"head tensor {name} holds NaN or infinite values; restore the run folder or train again")
        # Into new memory: the old may belong to a base shared with other runs.
        parameters[name].data = tensor.detach().to(parameters[name], copy=True)
