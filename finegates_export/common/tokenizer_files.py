"""Tokenizer files that transformers 4 and 5, and tools built on either, can read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from pathlib import Path

from finegates_export.common.files import JsonObject, write_json
from finegates_export.common.json_files import read_object
from finegates_export.common.text_inputs import Side, TextInputs
from finegates_export.errors import RunFolderError

TOKENIZER_JSON, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
IDS, SEGMENTS, MASK = "input_ids", "token_type_ids", "attention_mask"
TEMPLATE = "TemplateProcessing"
GENERIC_CLASS = {"TokenizersBackend": "PreTrainedTokenizerFast"}
"""Class names that only transformers 5 knows, and names that both versions know."""
EXTRA_TOKENS = ("extra_special_tokens", "additional_special_tokens")
"""The list of special tokens in transformers 5, then in both; version 4 needs the first to be a mapping."""
OTHER_FILES = ("run.json", "shrunk.json", "bundle.json", "config.json", "texts.json", "README.md")
SUFFIXES = (".json", ".txt", ".model", ".jinja", ".codes")
"""Suffixes of tokenizer and image processor files, as transformers writes them."""
REMEDY = "copy the base's tokenizer files there again"
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


def copy_tokenizer_file(source: Path, folder: Path, how: TextInputs | None, *, pads_left: bool = False) -> None:
    """Copy one file of a tokenizer into a bundle, saying in it how this model reads texts.

    Clients take the length, the end at which texts lose tokens and the side of padding from these files, so that they
    read as training and `load` do. `tokenizer_config.json` stays readable by transformers 4 and 5.

    Args:
        source: a file of the run folder.
        folder: the bundle.
        how: how texts are read; None for images, whose files are copied as they are.
        pads_left: whether shorter rows are filled in front, as generation needs; behind otherwise.

    Raises:
        RunFolderError: a file is damaged.
    """
    if how is None or source.name not in (TOKENIZER_CONFIG, TOKENIZER_JSON):
        shutil.copyfile(source, folder / source.name)
        return
    values = read_object(source, RunFolderError, REMEDY)
    side: Side = "left" if pads_left else "right"
    try:
        if source.name == TOKENIZER_CONFIG:
            changed = _config(values, how, side, source.parent / TOKENIZER_JSON)
        else:
            changed = _settings(values, how, side)
    except (ValueError, TypeError, KeyError) as error:
        raise RunFolderError(f"{source} is damaged ({error}); {REMEDY}") from error
    if source.name == TOKENIZER_CONFIG:
        write_json(folder / source.name, changed)
    else:
        (folder / source.name).write_text(json.dumps(changed, ensure_ascii=False), encoding="utf-8")


def _config(values: JsonObject, how: TextInputs, pads: Side, tokenizer: Path) -> JsonObject:
    """`tokenizer_config.json`."""
    for name in OF_THE_LOAD:
        values.pop(name, None)
    generic = GENERIC_CLASS.get(str(values.get("tokenizer_class", "")))
    if generic:
        values["tokenizer_class"] = generic
    ours, theirs = EXTRA_TOKENS
    if isinstance(values.get(ours), list):
        values[theirs] = values.pop(ours)
    # Versions differ in the names that they suppose where none are given.
    values["model_input_names"] = [IDS, *([SEGMENTS] if how.segments else []), MASK]
    if not values.get("pad_token") and tokenizer.is_file():
        values["pad_token"] = _token(read_object(tokenizer, RunFolderError, REMEDY), how.pad_token_id)
    sides = {"truncation_side": how.truncation_side, "padding_side": pads}
    return {**values, "model_max_length": how.max_length, **sides}


def _settings(values: JsonObject, how: TextInputs, pads: Side) -> JsonObject:
    """`tokenizer.json`: a base's own length of truncation and padding gives way to this model's."""
    names = {token["id"]: token["content"] for token in values.get("added_tokens", ())}
    filler = names.get(how.pad_token_id)
    if values.get("truncation"):
        values["truncation"] = {
            **values["truncation"],
            "max_length": how.max_length,
            "direction": how.truncation_side.capitalize(),
        }
    if values.get("padding"):
        known = {"pad_token": filler} if filler else {}
        values["padding"] = {
            **values["padding"],
            "strategy": "BatchLongest",
            "direction": pads.capitalize(),
            "pad_id": how.pad_token_id,
            **known,
        }
    return values if how.segments else {**values, "post_processor": _without_segments(values.get("post_processor"))}


def _token(content: JsonObject, number: int) -> str | None:
    """The token of an id, None if there is none; `content` is that of `tokenizer.json`."""
    vocabulary = content["model"].get("vocab", {})
    if isinstance(vocabulary, list):  # Unigram: tokens and their scores, in the order of their ids
        vocabulary = {token: place for place, (token, _) in enumerate(vocabulary)}
    known = {place: token for token, place in vocabulary.items()}
    known.update({entry["id"]: entry["content"] for entry in content.get("added_tokens", ())})
    return known.get(number)


def _without_segments(processor: JsonObject | None) -> JsonObject | None:
    """A post-processor that gives both texts of a pair the segment 0, as training did."""
    if processor is None:
        return None
    if processor["type"] == "Sequence":
        return {**processor, "processors": [_without_segments(part) for part in processor["processors"]]}
    if processor["type"] == "BertProcessing":
        (sep, sep_id), (cls, cls_id) = processor["sep"], processor["cls"]
        marks = {mark: {"id": mark, "ids": [one], "tokens": [mark]} for mark, one in ((cls, cls_id), (sep, sep_id))}
        before, behind = ({"SpecialToken": {"id": mark, "type_id": 0}} for mark in (cls, sep))
        first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
        single = [before, first, behind]
        return {
            "type": TEMPLATE, "single": single, "pair": [*single, second, behind], "special_tokens": marks,
        }  # fmt: skip
    if processor["type"] != TEMPLATE:
        return processor
    flat = {
        name: [{kind: {**part, "type_id": 0} for kind, part in piece.items()} for piece in processor[name]]
        for name in ("single", "pair")
    }
    return {**processor, **flat}
