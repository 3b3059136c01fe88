"""What a run reads besides its rows, by hashes: a resumed run goes on only with what it began with."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from finegates_export.common.files import sha256_file
from finegates_export.common.tokenizer_files import SUFFIXES
from finegates_export.gates.stored_adapter import CONFIG_FILE, WEIGHTS_FILE
from finegates_export.sources.base import BaseModel
from finegates_export.sources.run_folder import RUN_JSON
from finegates_trainer.options import TrainOptions

WEIGHT_INDEX = ".safetensors.index.json"
"""The end of the name of a list of weight files; sharding does not change a model."""


def contents_read(base: BaseModel, base_tensors: dict[str, str], options: TrainOptions) -> dict[str, str]:
    """A hash of everything that training reads from the base, the teacher and the adapter, by what it is called.

    Args:
        base: the run's base.
        base_tensors: its `tensor_hashes`.
        options: the run.
    """
    files = sorted(file for file in base.folder.iterdir() if file.is_file() and file.suffix in SUFFIXES)
    read = {file.name: sha256_file(file) for file in files if not file.name.endswith(WEIGHT_INDEX)}
    contents = {"content of base": _one_hash({**base_tensors, **read})}
    for name, folder in (("teacher", options.teacher), ("adapter", options.adapter)):
        if folder is not None:
            contents[f"content of {name}"] = _one_hash(_run_or_adapter(Path(folder)))
    return contents


def _run_or_adapter(folder: Path) -> dict[str, str]:
    """A run's record holds the hashes of its files and of its base."""
    names = (RUN_JSON,) if (folder / RUN_JSON).is_file() else (CONFIG_FILE, WEIGHTS_FILE)
    return {name: sha256_file(folder / name) for name in names}


def _one_hash(hashes: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
