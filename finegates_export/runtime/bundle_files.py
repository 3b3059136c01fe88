"""A bundle's files as the runtime and the servers read them: checked, under the exporter's names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.common.files import JsonObject, sha256_file
from finegates_export.common.graph_forms import GRAPH_FILES, Form
from finegates_export.common.text_inputs import TextInputs
from finegates_export.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BUNDLE_JSON = "bundle.json"
TOKENIZER_JSON = "tokenizer.json"
EXPORT_MARKS = (BUNDLE_JSON, f"*/1/{BUNDLE_JSON}")
"""Files that identify an earlier export: a bundle, or the bundle's record in a model repository."""
FIELDS = ("files", "graphs", "labels", "max_length", "target", "task")
"""Fields that every `bundle.json` must have."""


def read_bundle(folder: Path) -> JsonObject:
    """The content of `bundle.json`, every file checked against its hash.

    Raises:
        InputError: not a bundle, or a file of it is missing, was changed, or cannot be read.
    """
    try:
        return _checked(folder)
    except OSError as error:
        told = f"{error.filename or folder} cannot be read: {error.strerror or error}"
        raise InputError(f"{told}; grant read access, or copy the bundle again") from error


def _checked(folder: Path) -> JsonObject:
    """See `read_bundle`."""
    path = folder / BUNDLE_JSON
    if not path.is_file():
        raise InputError(f"{folder} is not a bundle: it lacks {BUNDLE_JSON}; give a folder that finegates-export wrote")
    try:
        info: JsonObject = dict(json.loads(path.read_text(encoding="utf-8")))
        files = dict(info["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); export again") from error
    lacking = [field for field in FIELDS if field not in info]
    if lacking:
        raise InputError(f"{path} is damaged (it lacks {', '.join(lacking)}); export again")
    for name, digest in files.items():
        if not (folder / name).is_file():
            raise InputError(f"bundle {folder} is incomplete: {name} is missing; copy it whole or export again")
        if sha256_file(folder / name) != digest:
            raise InputError(f"{folder / name} was changed after the export (its sha256 differs); export again")
    return info


def graph_in(folder: Path, info: JsonObject, form: Form) -> Path:
    """The file of a bundle's graph.

    Args:
        folder: the bundle.
        info: its `bundle.json`.
        form: which of its graphs.

    Raises:
        InputError: the bundle lacks that graph.
    """
    graphs = [name for name in info["graphs"] if Path(name).name == GRAPH_FILES[form]]
    if not graphs:
        raise InputError(f"{folder} has no {form} graph; export it with --quantize {form}")
    return folder / graphs[0]


def text_inputs(folder: Path, info: JsonObject, tokenizer: Tokenizer) -> TextInputs:
    """How the texts of a bundle's model are read.

    Args:
        folder: the bundle.
        info: its `bundle.json`; one that was written before it told this is read as such bundles were.
        tokenizer: the bundle's own.

    Raises:
        InputError: the record is damaged.
    """
    told = info.get("text")
    try:
        if told is not None:
            return TextInputs.from_json(dict(told))
        return TextInputs(info["max_length"], pad_token_id=pad_id(tokenizer, folder))
    except (TypeError, ValueError) as error:
        raise InputError(f"{folder / BUNDLE_JSON} is damaged (text: {error}); export again") from error


def pad_token(folder: Path) -> str:
    """The token that pads shorter texts."""
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return "[PAD]"
    token = json.loads(path.read_text(encoding="utf-8")).get("pad_token") or "[PAD]"
    return str(token["content"] if isinstance(token, dict) else token)


def pad_id(tokenizer: Tokenizer, folder: Path) -> int:
    """The id of the padding token; 0 if the vocabulary lacks it.

    Args:
        tokenizer: a `tokenizers.Tokenizer` of the bundle's own.
        folder: the bundle.
    """
    return int(tokenizer.token_to_id(pad_token(folder)) or 0)
