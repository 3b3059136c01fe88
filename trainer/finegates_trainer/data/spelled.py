"""Lists that are spelled as text in one cell: as JSON, as Python writes them, or as words between commas."""

from __future__ import annotations

import ast
import re
from typing import Any

from finegates_trainer.data.json_rows import parse_json

_ITEM = r"""(?:
    '(?:[^'\\]|\\['"\\nrt]|\\x[0-9a-f]{2}|\\u[0-9a-f]{4})*'
    |"(?:[^"\\]|\\['"\\nrt]|\\x[0-9a-f]{2}|\\u[0-9a-f]{4})*"
    |[-+]?\d+(?:\.\d+)?
)"""
PYTHON_LIST = re.compile(rf"[\[({{]\s*(?:{_ITEM}(?:\s*,\s*{_ITEM})*\s*,?)?\s*[\])}}]", re.VERBOSE)
"""A list, tuple or set of texts and numbers; numpy parts them with spaces, which Python would read as one text."""
MADE = re.compile(r"(?:array|set|frozenset|Index|dict)\(.*\)", re.DOTALL)
"""Other values as Python shows them."""
PAIRS = {"[": "]", "(": ")", "{": "}"}


def spelled_list(text: str) -> list[Any] | None:
    """The entries of a list; None if the text does not look like one.

    Raises:
        ValueError: it looks like a list but cannot be read as one.
    """
    text = text.strip()
    if not looks_listed(text):
        return None
    if text.startswith("["):
        try:
            found = parse_json(text)
            return list(found)
        except ValueError:
            pass  # as Python writes it, perhaps
    if text == "{}" or PAIRS.get(text[0]) != text[-1] or not PYTHON_LIST.fullmatch(text):
        raise ValueError("is spelled like a list, but is neither JSON nor a list of Python")
    entries: list[Any] = ast.literal_eval(f"[{text[1:-1]}]")  # a set has no order
    return entries


def looks_listed(text: str) -> bool:
    """Whether a text begins as lists and sets do, or is a value as Python shows it."""
    quoted = text[:1] in ("(", "{") and text[1:].lstrip()[:1] in ("'", '"')
    return text.startswith("[") or quoted or text in ("()", "{}") or MADE.fullmatch(text) is not None


def words_between_commas(text: str) -> list[str]:
    """The words of a text.

    Raises:
        ValueError: one is in quotes, which would become part of it.
    """
    words = [part.strip() for part in text.split(",") if part.strip()]
    for word in words:
        if len(word) > 1 and word[0] == word[-1] and word[0] in "'\"":
            raise ValueError(f"has the word {word} in quotes")
    return words
