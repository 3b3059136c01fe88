"""The checkpoint of an interrupted run: one safetensors file, replaced atomically. No pickle.

Everything a step depends on is either stored here or a function of seed and step: noise, dropout and row order are
derived from those, so a resumed run repeats the uninterrupted one bit for bit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finegates_export.common.files import staged_file
from finegates_export.common.tensor_files import save_tensors
from finegates_export.errors import RunFolderError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CHECKPOINT = "checkpoint.safetensors"


def save_checkpoint(folder: Path, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
    """Replace the folder's checkpoint.

    Args:
        folder: the run's working folder.
        tensors: parameters, optimizer state, best state, by name.
        scalars: the rest, as JSON types.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with staged_file(folder / CHECKPOINT, overwrite=True) as stage:
        apart = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        save_tensors(apart, stage, {"scalars": json.dumps(scalars)})


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and scalars of the folder's checkpoint; None if there is none.

    Raises:
        RunFolderError: the file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            scalars = json.loads(file.metadata()["scalars"])
            return {name: file.get_tensor(name) for name in file.keys()}, scalars  # noqa: SIM118  # not a mapping
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"{path} cannot be read ({error}); --overwrite in place of --resume starts again"
        ) from error


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[int, str]) -> dict[str, Tensor]:
    """AdamW's state by parameter name.

    Args:
        optimizer: the optimizer.
        names: parameter names by `id(parameter)`.
    """
    import torch

    return {
        f"optimizer/{names[id(parameter)]}/{key}": torch.as_tensor(value)
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, names: dict[int, str], tensors: dict[str, Tensor]) -> None:
    """Restore `optimizer_tensors`."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            prefix = f"optimizer/{names[id(parameter)]}/"
            state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            if state:
                optimizer.state[parameter] = {
                    key: value.clone() if key == "step" else value.to(parameter.device).clone()
                    for key, value in state.items()
                }
