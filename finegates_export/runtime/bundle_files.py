"""A bundle's files as the runtime and the servers read them: checked, under the exporter's names."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from finegates_export.common.files import JsonObject, sha256_file
from finegates_export.common.graph_forms import GRAPH_FILES, Form
from finegates_export.common.json_files import MOST_BYTES, parse_object, read_object
from finegates_export.common.options import check
from finegates_export.common.text_inputs import TextInputs
from finegates_export.errors import InputError
from finegates_export.runtime.bundle_fields import check_fields
from finegates_export.runtime.chat import TEMPLATE_FILE
from finegates_export.runtime.graph_references import check_references
from finegates_export.runtime.signature import SIGNATURE, check_signature

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BUNDLE_JSON = "bundle.json"
TOKENIZER_JSON = "tokenizer.json"
EXPORT_MARKS = (BUNDLE_JSON, f"*/1/{BUNDLE_JSON}")
"""Files that identify an earlier export: a bundle, or the bundle's record in a model repository."""
READ = (TOKENIZER_JSON, "tokenizer_config.json", TEMPLATE_FILE, "config.json", "generation_config.json")
"""Files that the runtime reads where they are there: one that is not listed was put there by somebody else."""


def read_bundle(folder: Path, key: str | Path | bytes | None = None) -> JsonObject:
    """The content of `bundle.json`, every file checked against its hash.

    Nothing but that file is opened before its fields, and its signature where asked for, are checked; then only files
    that it lists are, none of them a link.

    Args:
        folder: the bundle.
        key: the public key that must have signed it, as a PEM file or its content; None asks for no signature.

    Raises:
        InputError: not a bundle, not signed by that key, or a file of it is missing, was changed, is not listed, lies
            elsewhere, or cannot be read.
        MissingExtraError: a key is given, and cryptography is not installed.
    """
    try:
        return _checked(folder, key)
    except OSError as error:
        told = f"{error.filename or folder} cannot be read: {error.strerror or error}"
        raise InputError(f"{told}; grant read access, or copy the bundle again") from error


def _checked(folder: Path, key: str | Path | bytes | None) -> JsonObject:
    """See `read_bundle`."""
    path = folder / BUNDLE_JSON
    if not os.path.lexists(path):
        raise InputError(f"{folder} is not a bundle: it lacks {BUNDLE_JSON}; give a folder that finegates-export wrote")
    _check_place(folder, BUNDLE_JSON)
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"{path} is damaged (more than {MOST_BYTES:,} bytes); export again")
    content = path.read_bytes()
    if key is not None:
        if os.path.lexists(folder / SIGNATURE):
            _check_place(folder, SIGNATURE)
        check_signature(folder, content, key)
    info = parse_object(content, path, InputError, "export again")
    check_fields(info, path)
    for name in (*READ, *(f"{graph}.data" for graph in info["graphs"])):
        if name not in info["files"] and os.path.lexists(folder / name):
            raise InputError(
                f"{folder / name} is not among the files that {BUNDLE_JSON} lists; remove it, or export again"
            )
    for name, digest in info["files"].items():
        _check_place(folder, name)
        if sha256_file(folder / name) != digest:
            raise InputError(f"{folder / name} was changed after the export (its sha256 differs); export again")
    for name in (one for one in READ[1:] if one in info["files"] and one.endswith(".json")):
        read_object(folder / name, InputError, "export again")
    for name in info["graphs"]:
        check_references(folder / name, folder, info["files"])
    return info


def _check_place(folder: Path, name: str) -> None:
    """Fail unless a name is that of a file in the folder itself, with no link on the way.

    A pipe or a device is no file either: reading one may never end.
    """
    at = folder
    for part in PurePosixPath(name).parts:
        at = at / part
        if at.is_symlink():
            raise InputError(
                f"{at} is a link, which may lead out of the bundle; copy the bundle with its files (cp -rL)"
            )
    if not at.is_file():
        raise InputError(f"bundle {folder} is incomplete: {name} is missing; copy it whole or export again")


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
            how = TextInputs.from_json(dict(told))
            check(how.max_length == info["max_length"], "max_length", f"{how.max_length}, not {info['max_length']}")
            return how
        return TextInputs(info["max_length"], pad_token_id=pad_id(tokenizer, folder))
    except (TypeError, ValueError) as error:
        raise InputError(f"{folder / BUNDLE_JSON} is damaged (text: {error}); export again") from error


def pad_token(folder: Path) -> str:
    """The token that pads shorter texts."""
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return "[PAD]"
    token = read_object(path, InputError, "export again").get("pad_token") or "[PAD]"
    return str(token.get("content", "[PAD]") if isinstance(token, dict) else token)


def pad_id(tokenizer: Tokenizer, folder: Path) -> int:
    """The id of the padding token; 0 if the vocabulary lacks it.

    Args:
        tokenizer: a `tokenizers.Tokenizer` of the bundle's own.
        folder: the bundle.
    """
    return int(tokenizer.token_to_id(pad_token(folder)) or 0)
