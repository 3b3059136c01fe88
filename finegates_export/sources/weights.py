"""The weights of a base on disk: their hashes, and whether config.json matches them."""

from __future__ import annotations

import hashlib
import math
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from finegates_export.common.foreign import model_class
from finegates_export.common.stored_tensors import DTYPES, read_header
from finegates_export.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from finegates_export.families.model_config import ModelConfig
    from finegates_export.sources.heads import Loader

LAYER_NUMBER = re.compile(r"\b(?:layers?|h)\.(\d+)\.")
"""A layer in a tensor's name; GPT-2 calls its layers `h`."""

RESTORE = "Restore the base's own config.json"
MOST_MORE = 2
"""How many times as much a config may ask for as the weights hold, before a model is made to tell what differs."""
NEW_HEAD = 10_000_000
"""Values that a new head may have beyond that."""


class Loading(TypedDict):
    """What of transformers' report on loading a model is read, by names of tensors."""

    missing_keys: set[str]
    unexpected_keys: set[str]
    mismatched_keys: set[tuple[str, tuple[int, ...], tuple[int, ...]]]
    """With the shape stored and the shape wanted."""


def hash_tensors(file: Path) -> Iterator[tuple[str, str]]:
    """Name and SHA-256 of every tensor's bytes as stored.

    Raises:
        InputError: the file is truncated or not safetensors.
    """
    header, start = read_header(file)
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        view = memoryview(data)
        for name, entry in sorted(header.items()):
            first, last = entry["data_offsets"]
            with view[start + first : start + last] as chunk:
                yield name, hashlib.sha256(chunk).hexdigest()
        view.release()


def read_tensors(file: Path) -> Iterator[tuple[str, Tensor, str]]:
    """Name, tensor as stored, and SHA-256 of its bytes, for every tensor: each is read once, into its own memory.

    Raises:
        InputError: the file is truncated, not safetensors, or has a type that torch does not support.
    """
    import torch

    header, start = read_header(file)
    with file.open("rb") as handle:
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            first, last = entry["data_offsets"]
            if entry["dtype"] not in DTYPES:
                raise InputError(
                    f"{file}: tensor {name} has type {entry['dtype']}; save it as one of {', '.join(DTYPES)}"
                )
            stored = torch.empty(last - first, dtype=torch.uint8)
            content = stored.numpy().data
            handle.seek(start + first)
            if handle.readinto(content) != last - first:
                raise InputError(f"{file} was truncated while it was being read; download it again")
            digest = hashlib.sha256(content).hexdigest()
            yield name, stored.view(getattr(torch, DTYPES[entry["dtype"]])).reshape(entry["shape"]), digest


def check_amount(base_id: str, loader: Loader, config: ModelConfig, files: list[Path]) -> None:
    """Refuse a `config.json` that asks for far more than the weights hold, before memory is taken for it.

    Args:
        base_id: the base as messages call it.
        loader: makes the model.
        config: the base's transformers config.
        files: its weight files.

    Raises:
        InputError: it asks for more layers or values than the weights hold, or a file is truncated.
    """
    import torch

    stored = [(name, entry) for file in files for name, entry in read_header(file)[0].items()]
    numbers = [int(number.group(1)) for number in (LAYER_NUMBER.search(name) for name, _ in stored) if number]
    layers = max(numbers, default=-1) + 1
    if config.num_hidden_layers > MOST_MORE * max(layers, 1) + MOST_MORE:
        raise InputError(
            f"{base_id}: config.json and weights disagree: config.json asks for {config.num_hidden_layers:,} layers, "
            f"but the weights hold {layers}. {RESTORE}"
        )
    held = sum(math.prod(entry["shape"]) for _, entry in stored)
    with torch.device("meta"):
        asked = sum(one.numel() for one in model_class(loader, config)(config).parameters())
    if asked > MOST_MORE * held + NEW_HEAD:
        raise InputError(
            f"{base_id}: config.json and weights disagree: config.json asks for {asked:,} values, but the weights hold "
            f"{held:,}. {RESTORE}"
        )


def check_fit(base_id: str, loading: Loading, model: nn.Module, head: tuple[str, ...], layers: int) -> None:
    """Refuse a base whose config.json and weights disagree: transformers would reinitialize what does not fit.

    Args:
        base_id: the base as messages call it.
        loading: transformers' report on the loading.
        model: the loaded model.
        head: paths of the modules that may be new.
        layers: number of layers in config.json.

    Raises:
        InputError: a tensor outside the head is missing or has another shape, or the weights hold more layers, or more
            tensors of a linear or norm in a layer.
    """
    heads = tuple(f"{path}." for path in head)
    remedy = RESTORE
    for name, stored, wanted in sorted(loading["mismatched_keys"], key=lambda entry: str(entry[0])):
        if not name.startswith(heads):
            raise InputError(
                f"{base_id}: config.json and weights disagree: tensor {name} has shape {tuple(stored)}, "
                f"but config.json asks for {tuple(wanted)}. {remedy}"
            )
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    for name in sorted(loading["missing_keys"]):
        if not name.startswith(heads) and name in shapes:
            raise InputError(
                f"{base_id}: config.json and weights disagree: config.json asks for a tensor {name} of shape "
                f"{shapes[name]}, but the weights lack it. {remedy}"
            )
    filled = {_in_layer(name).rpartition(".")[0] for name in shapes}
    for name in sorted(loading["unexpected_keys"]):
        number = LAYER_NUMBER.search(name)
        if not number:
            continue
        if int(number.group(1)) >= layers:
            raise InputError(
                f"{base_id}: config.json and weights disagree: the weights hold {name}, but config.json asks for "
                f"{layers} layers. {remedy}"
            )
        # Other extra tensors are harmless: some bases store masks, which the model makes itself.
        if _in_layer(name).rpartition(".")[0] in filled:
            raise InputError(
                f"{base_id}: config.json and weights disagree: the weights hold {name}, which config.json omits. "
                f"{remedy}"
            )


def _in_layer(name: str) -> str:
    """A tensor's name from its layer's number on, which is the same with every head; unchanged without a number."""
    number = LAYER_NUMBER.search(name)
    return name[number.start(1) :] if number else name
