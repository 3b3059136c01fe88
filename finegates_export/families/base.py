"""The base model: found in a folder or on the hub, hashed, and loaded from safetensors in float32.

Everything is done on a folder: a hub id is first brought into the local cache. Weights in pickle are refused, and
`trust_remote_code` stays off.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from finegates_export.errors import InputError, missing_extra
from finegates_export.families import family_of
from finegates_export.families.family import Family

Task = Literal["classification", "regression"]
TASKS: tuple[Task, ...] = ("classification", "regression")

HUB_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model", "LICENSE*", "README.md"]
LENGTH_FIELD = 8
"""A safetensors file starts with the length of its header: 8 bytes, little-endian."""


@dataclass(frozen=True)
class BaseModel:
    """A base model on disk."""

    id: str
    """What the user named: a folder or a hub id."""
    revision: str | None
    """The hub's commit; None for a folder."""
    folder: Path

    def config(self) -> Any:
        """The transformers config.

        Raises:
            InputError: there is none, or transformers cannot read it.
        """
        from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(self.folder, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.id}: no usable config.json ({_first_line(error)})") from error

    def family(self) -> Family:
        """The family that serves this base; see `family_of`."""
        return family_of(self.config().model_type)

    def weight_files(self) -> list[Path]:
        """The safetensors files that hold the weights.

        Raises:
            InputError: there are none, or only pickled ones.
        """
        index = self.folder / "model.safetensors.index.json"
        if index.exists():
            shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            files = [self.folder / shard for shard in shards]
        else:
            files = [self.folder / "model.safetensors"]
        missing = [file.name for file in files if not file.is_file()]
        if not missing:
            return files
        if any(self.folder.glob("*.bin")):
            raise InputError(
                f"{self.id} holds its weights in pickle (.bin), which can run code when loaded and is refused. "
                "Convert it once where you trust it: AutoModel.from_pretrained(X).save_pretrained(Y) writes safetensors"
            )
        raise InputError(f"{self.id}: weights not found, {missing[0]} is missing in {self.folder}")

    def tensor_hashes(self) -> dict[str, str]:
        """SHA-256 of every base tensor's bytes as stored, by name.

        Raises:
            InputError: a weight file is truncated or not safetensors.
        """
        return {name: digest for file in self.weight_files() for name, digest in _hash_tensors(file)}

    def load(self, task: str, labels: tuple[str, ...]) -> Any:
        """The model with a head for the task, in float32 and in evaluation mode.

        The base's own head is kept where it fits; otherwise transformers draws a new one.

        Raises:
            InputError: the weights cannot be read.
        """
        import torch
        from transformers import AutoModelForSequenceClassification

        for file in self.weight_files():
            _read_header(file)
        settings: dict[str, Any] = {"num_labels": 1, "problem_type": "regression"}
        if task == "classification":
            settings = {
                "num_labels": len(labels),
                "problem_type": "single_label_classification",
                "id2label": dict(enumerate(labels)),
                "label2id": {label: i for i, label in enumerate(labels)},
            }
        try:
            with _quiet_transformers():
                model = AutoModelForSequenceClassification.from_pretrained(
                    self.folder,
                    dtype=torch.float32,
                    trust_remote_code=False,
                    ignore_mismatched_sizes=True,
                    use_safetensors=True,
                    **settings,
                )
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"{self.id}: weights cannot be loaded ({_first_line(error)})") from error
        # Loaded tensors are views of the mapped file: one that is kept would keep all of it resident.
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()
        return model.eval()

    def tokenizer(self) -> Any:
        """The base's tokenizer.

        Raises:
            InputError: there is none.
        """
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.id}: no usable tokenizer ({_first_line(error)})") from error


def find_base(id_or_folder: str, revision: str | None = None) -> BaseModel:
    """Find a base model in a folder or, failing that, on the hub.

    Raises:
        InputError: neither a folder nor reachable on the hub.
        MissingExtraError: a hub id without the `export` extra installed.
    """
    folder = Path(id_or_folder).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"{id_or_folder} is a folder without config.json; --base takes a saved transformers model")
        return BaseModel(str(folder.absolute()), None, folder.absolute())
    if folder.is_absolute() or id_or_folder.startswith("."):
        raise InputError(f"base model folder {id_or_folder} does not exist")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise missing_extra("huggingface_hub", "export") from error
    try:
        path = Path(snapshot_download(id_or_folder, revision=revision, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"{id_or_folder} is neither a folder nor a model that the hub gave ({_first_line(error)})"
        ) from error
    return BaseModel(id_or_folder, path.name, path)


def _read_header(file: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file and where its data starts (spec: huggingface.co/docs/safetensors)."""
    size = file.stat().st_size
    with file.open("rb") as handle:
        length = int.from_bytes(handle.read(LENGTH_FIELD), "little")
        if size < LENGTH_FIELD or length > size - LENGTH_FIELD:
            raise InputError(f"{file} is truncated or not a safetensors file ({size} bytes); download it again")
        try:
            header = json.loads(handle.read(length))
        except ValueError as error:
            raise InputError(f"{file} is not a safetensors file: its header is not JSON") from error
    header.pop("__metadata__", None)
    start = LENGTH_FIELD + length
    end = start + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if end > size:
        raise InputError(f"{file} is truncated: its header asks for {end} bytes, it has {size}; download it again")
    return header, start


def _hash_tensors(file: Path) -> Iterator[tuple[str, str]]:
    header, start = _read_header(file)
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        view = memoryview(data)
        for name, entry in sorted(header.items()):
            first, last = entry["data_offsets"]
            with view[start + first : start + last] as chunk:
                yield name, hashlib.sha256(chunk).hexdigest()
        view.release()


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence the report on the newly drawn head: a new head is what was asked for."""
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
        if bars:
            transformers_logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
