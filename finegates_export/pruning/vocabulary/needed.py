"""The tokens of a byte-pair vocabulary that a text needs, and a vocabulary of only those.

Byte-pair encoding (Sennrich et al., 2016) joins neighbours, always by the first applicable merge in the list. A text
needs its own tokens, the parts that merges make them of, and single characters or bytes, so that any other text can
still be read, in more pieces. Each merge used for the text stays, in the same order: the text is read into the same
tokens as before.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

from finegates_export.errors import UnsupportedError

Content = dict[str, Any]
"""A tokenizer.json of the tokenizers library."""
ALGORITHM = "BPE"


def needed_tokens(content: Content, ids: Iterable[int]) -> list[int]:
    """The kept ids, ascending.

    Args:
        content: the tokenizer.
        ids: the text's ids, and others to keep.

    Raises:
        UnsupportedError: the vocabulary is not byte-pair encoding.
    """
    model = content["model"]
    if model.get("type") != ALGORITHM:
        raise UnsupportedError(
            f"vocabulary-of: the tokenizer is of the type {model.get('type')}, and only a vocabulary of byte pairs "
            f"({ALGORITHM}) is read as before when some of it is gone; omit --vocabulary-of"
        )
    vocabulary: dict[str, int] = model["vocab"]
    parts: dict[str, set[str]] = {}
    for left, right, result in _merges(model):
        parts.setdefault(result, set()).update((left, right))
    names = {number: token for token, number in vocabulary.items()}
    open_ends = [names[number] for number in ids if number in names]
    open_ends += [token for token in vocabulary if token not in parts]
    kept: set[str] = set()
    while open_ends:
        token = open_ends.pop()
        if token not in kept:
            kept.add(token)
            open_ends += parts.get(token, ())
    added = {entry["id"] for entry in content["added_tokens"]}
    return sorted({vocabulary[token] for token in kept if token in vocabulary} | added)


def cut_content(content: Content, kept: list[int]) -> Content:
    """The tokenizer with only the kept ids, renumbered in order."""
    new = {old: number for number, old in enumerate(kept)}
    cut = copy.deepcopy(content)
    model = cut["model"]
    model["vocab"] = {token: new[number] for token, number in model["vocab"].items() if number in new}
    model["merges"] = [
        merge
        for merge, (left, right, result) in zip(model["merges"], _merges(model), strict=True)
        if {left, right, result} <= model["vocab"].keys()
    ]
    for entry in cut["added_tokens"]:
        entry["id"] = new[entry["id"]]
    _renumber(cut.get("post_processor"), new)
    return cut


def _merges(model: Content) -> Iterator[tuple[str, str, str]]:
    """Left, right, and their result; older files write a merge as one string."""
    prefix = model.get("continuing_subword_prefix") or ""
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield left, right, left + right.removeprefix(prefix)


def _renumber(processor: Content | None, new: dict[int, int]) -> None:
    """Ids of special tokens that a post-processor adds around a text."""
    if processor is None:
        return
    for part in processor.get("processors", ()):
        _renumber(part, new)
    specials = processor.get("special_tokens", {})
    for entry in specials.values() if isinstance(specials, dict) else ():
        entry["ids"] = [new[number] for number in entry["ids"]]
    for name in ("sep", "cls"):
        if name in processor:
            token, number = processor[name]
            processor[name] = [token, new[number]]
