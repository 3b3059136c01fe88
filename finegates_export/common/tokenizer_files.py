"""Tokenizer files that transformers 4 and 5, and tools built on either, can read."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from finegates_export.common.files import write_json
from finegates_export.common.json_files import read_object
from finegates_export.errors import RunFolderError

TOKENIZER_JSON, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
GENERIC_CLASS = {"TokenizersBackend": "PreTrainedTokenizerFast"}
"""Class names that only transformers 5 knows, and names that both versions know."""
EXTRA_TOKENS = ("extra_special_tokens", "additional_special_tokens")
"""The list of special tokens in transformers 5, then in both; version 4 needs the first to be a mapping."""
OTHER_FILES = ("run.json", "shrunk.json", "bundle.json", "config.json", "README.md")
SUFFIXES = (".json", ".txt", ".model", ".jinja", ".codes")
"""Suffixes of tokenizer and image processor files, as transformers writes them."""
OF_THE_LOAD = ("is_local", "local_files_only", "name_or_path")
"""How the base was once loaded, which says nothing about the tokenizer."""


def companions(folder: Path, listed: Collection[str] | None = None) -> list[Path]:
    """The files of a run or shrunk folder that belong with its model: tokenizer or image processor.

    Anything else is left alone, such as an earlier export's graph. Links are not followed.

    Args:
        folder: the folder.
        listed: names of the files that its record lists; None to take all.
    """
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and file.suffix in SUFFIXES]
    own = [file for file in files if file.name not in OTHER_FILES and not file.is_symlink()]
    return [file for file in own if listed is None or file.name in listed]


def copy_tokenizer_file(source: Path, folder: Path, max_length: int) -> None:
    """Copy one file of a tokenizer into a bundle, `tokenizer_config.json` readable by both versions.

    Clients truncate texts at the length in that file. It gets the run's length, so that they truncate as training and
    `load` do.

    Args:
        source: a file of the run folder.
        folder: the bundle.
        max_length: maximum tokens per row.

    Raises:
        RunFolderError: `tokenizer_config.json` is damaged.
    """
    if source.name != TOKENIZER_CONFIG:
        shutil.copyfile(source, folder / source.name)
        return
    values = read_object(source, RunFolderError, "copy the base's tokenizer files there again")
    for name in OF_THE_LOAD:
        values.pop(name, None)
    generic = GENERIC_CLASS.get(str(values.get("tokenizer_class", "")))
    if generic:
        values["tokenizer_class"] = generic
    ours, theirs = EXTRA_TOKENS
    if isinstance(values.get(ours), list):
        values[theirs] = values.pop(ours)
    values["model_max_length"] = max_length
    write_json(folder / TOKENIZER_CONFIG, values)
