"""Writing tensors to a safetensors file, with the same errors as any other file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.errors import OutputError

if TYPE_CHECKING:
    from torch import Tensor


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write named tensors.

    Args:
        tensors: on any device, in any memory layout.
        path: the file.
        metadata: more entries for the file's header.

    Raises:
        OutputError: the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, path, metadata)
    except SafetensorError as error:
        raise OutputError(f"cannot write {path}: {error}. Free space or choose another --out") from error
