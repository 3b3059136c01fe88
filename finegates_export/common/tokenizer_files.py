"""The tokenizer's files as transformers 4 and 5, and what is built on either, can read them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from finegates_export.common.files import write_json
from finegates_export.errors import RunFolderError

TOKENIZER_CONFIG = "tokenizer_config.json"
GENERIC_CLASS = {"TokenizersBackend": "PreTrainedTokenizerFast"}
"""Names of transformers 5 that its version 4 does not know, and the ones that both know."""
EXTRA_TOKENS = ("extra_special_tokens", "additional_special_tokens")
"""A list of special tokens in transformers 5, and in both: the first has to be a mapping in version 4."""
OTHER_FILES = ("run.json", "shrunk.json", "bundle.json", "config.json", "README.md")
SUFFIXES = (".json", ".txt", ".model", ".jinja", ".codes")
"""Of tokenizers, image processors and their settings, as transformers writes them."""
OF_THE_LOAD = ("is_local", "local_files_only", "name_or_path")
"""How the base was once loaded, which says nothing of the tokenizer."""


def companions(folder: Path) -> list[Path]:
    """The files of a run or shrunk folder that go wherever its model goes: tokenizer or image processor.

    Whatever else lies there stays, an earlier export's graph for one.
    """
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and file.suffix in SUFFIXES]
    return [file for file in files if file.name not in OTHER_FILES]


def copy_tokenizer_file(source: Path, folder: Path, max_length: int) -> None:
    """Copy one file of a tokenizer into a bundle, `tokenizer_config.json` in the words of both versions.

    Clients cut texts where that file says. The run's length is written into it, so that they cut where the model's
    training did and where `load` does.

    Args:
        source: a file of the run folder.
        folder: the bundle.
        max_length: tokens of a row at most.

    Raises:
        RunFolderError: `tokenizer_config.json` is damaged.
    """
    if source.name != TOKENIZER_CONFIG:
        shutil.copyfile(source, folder / source.name)
        return
    try:
        values: dict[str, Any] = dict(json.loads(source.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise RunFolderError(f"{source} is damaged ({error}); copy the base's tokenizer files there again") from error
    for name in OF_THE_LOAD:
        values.pop(name, None)
    generic = GENERIC_CLASS.get(values.get("tokenizer_class", ""))
    if generic:
        values["tokenizer_class"] = generic
    ours, theirs = EXTRA_TOKENS
    if isinstance(values.get(ours), list):
        values[theirs] = values.pop(ours)
    values["model_max_length"] = max_length
    write_json(folder / TOKENIZER_CONFIG, values)
