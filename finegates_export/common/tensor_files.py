"""Tensors into a safetensors file; what the disk refuses is told as every other file's failure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.errors import OutputError

if TYPE_CHECKING:
    from torch import Tensor


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write named tensors.

    Args:
        tensors: on whatever device, in whatever order of dims.
        path: the file.
        metadata: what the file's header says besides.

    Raises:
        OutputError: the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, path, metadata)
    except SafetensorError as error:
        raise OutputError(f"cannot write {path}: {error}. Free space or choose another --out") from error
