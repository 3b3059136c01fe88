"""Sentence embeddings: how to pool the last hidden state, and where a base says so.

sentence-transformers stores the answer with a model, in `1_Pooling/config.json` and `modules.json`.

Shapes: B rows, S tokens, D hidden size.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finegates_export.common.files import JsonObject
from finegates_export.common.tasks.arrays import Array
from finegates_export.errors import InputError, UnsupportedError

POOLINGS = ("mean", "cls")
"""How to pool the last hidden state into an embedding: the mean over attended tokens, or the first token."""
POOLING_CONFIG = Path("1_Pooling") / "config.json"
MODULES = "modules.json"
KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")
MODE_FIELDS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
}
"""Supported fields of sentence-transformers, and our names for them."""
SMALLEST_NORM = 1e-12
"""Shorter vectors are not scaled up to length 1: torch's `normalize` draws the same line."""


@dataclass(frozen=True)
class Pooling:
    """How to make a sentence embedding."""

    mode: str
    """`mean` over attended tokens, or `cls`: the first token."""
    normalize: bool
    """Whether to scale it to length 1."""


def pool(hidden_BSD: Array, attended_BS: Array, pooling: Pooling) -> Array:
    """Sentence embeddings of shape (B, D) in numpy; with `mean`, a row without attended tokens gives zeros."""
    if pooling.mode == "cls":
        pooled_BD = hidden_BSD[:, 0]
    else:
        weight_BS1 = attended_BS[..., None].astype(hidden_BSD.dtype)
        pooled_BD = (hidden_BSD * weight_BS1).sum(1) / np.maximum(weight_BS1.sum(1), 1)
    return normalized(pooled_BD) if pooling.normalize else pooled_BD


def normalized(vectors_BD: Array) -> Array:
    """Vectors scaled to length 1."""
    return vectors_BD / np.maximum(np.linalg.norm(vectors_BD, axis=-1, keepdims=True), SMALLEST_NORM)


def find_pooling(named: str | None, normalize: bool | None, base_id: str, folder: Path) -> Pooling:
    """The user's choice, else that of the base's files.

    Args:
        named: `mean` or `cls`; None to ask the base.
        normalize: whether to scale vectors to length 1; None to ask the base.
        base_id: the base as messages call it.
        folder: the base's folder.

    Raises:
        InputError: neither says how to pool tokens, or the base's files are damaged.
        UnsupportedError: the base pools in an unsupported way.
    """
    if named is not None:
        return Pooling(named, _normalizes(folder) if normalize is None else normalize)
    path = folder / POOLING_CONFIG
    if not path.is_file():
        raise InputError(
            f"{base_id} does not say how to pool its tokens (it lacks {POOLING_CONFIG.as_posix()}); pass "
            f"--pooling {' or --pooling '.join(POOLINGS)}"
        )
    content = _read(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged (it is not a JSON object); restore it, or pass --pooling")
    values = _modes(content)
    modes = [name.removeprefix("pooling_mode_") for name, on in values.items() if on and name in MODE_FIELDS]
    others = [name.removeprefix("pooling_mode_") for name, on in values.items() if on is True and _is_other_mode(name)]
    if len(modes) != 1 or others:
        raise UnsupportedError(
            f"{base_id} pools by {', '.join([*modes, *others]) or 'nothing'} ({POOLING_CONFIG.as_posix()}); supported "
            f"is exactly one of {', '.join(POOLINGS)}. Pass --pooling to train with it"
        )
    mode = next(MODE_FIELDS[name] for name in MODE_FIELDS if values.get(name))
    # Read even if the user decides about the length: modules after the pooling may make the base unusable.
    normalizes = _normalizes(folder)
    return Pooling(mode, normalizes if normalize is None else normalize)


def _modes(values: JsonObject) -> JsonObject:
    """The pooling's fields as flags; newer files name the mode instead."""
    named = values.get("pooling_mode")
    if named is None:
        return values
    fields = {mode: field for field, mode in MODE_FIELDS.items()}
    return {fields.get(mode, f"pooling_mode_{mode}"): True for mode in ([named] if isinstance(named, str) else named)}


def _is_other_mode(field: str) -> bool:
    return field.startswith("pooling_mode_") and field not in MODE_FIELDS


def _normalizes(folder: Path) -> bool:
    path = folder / MODULES
    if not path.is_file():
        return False
    try:
        kinds = [str(module["type"]).rpartition(".")[2] for module in _read(path)]
    except (TypeError, KeyError) as error:
        raise InputError(
            f"{path} is damaged ({error}); restore it, or pass --pooling with --normalize or --no-normalize"
        ) from error
    strange = [kind for kind in kinds if kind not in KNOWN_MODULES]
    if strange:
        raise UnsupportedError(
            f"{path} has a {strange[0]} module after the encoder, which would be lost; supported are "
            f"{', '.join(KNOWN_MODULES)}. Remove it from a copy of the base to train without it"
        )
    return "Normalize" in kinds


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); restore it") from error
