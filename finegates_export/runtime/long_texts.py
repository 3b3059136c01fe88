"""Reads long texts without tokenizing all of them: a generous part first, more where that gave too few tokens.

A row keeps at most `max_length` tokens, but a text may have ten million characters, and a tokenizer's record of each
token takes a hundred bytes. Texts are parted in front of white space, where tokenizers part words themselves, and
tokens near the cut are not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from finegates_export.common.text_inputs import Side

if TYPE_CHECKING:
    from finegates_export.runtime.texts import Text

CHARACTERS = 8
"""Characters read for each token that a row may keep, at first."""
FEWEST = 1 << 11
"""Shorter texts are tokenized whole. Two texts of a pair cost the product of their lengths when they are truncated."""
UNUSED = 64
"""Tokens at the cut that may differ from those of the whole text."""
MORE = 8
"""How much longer the next part is where one gave too few tokens."""
NEARBY = 1 << 12
"""Characters that are searched for white space."""

Count = Callable[[str], int]
"""The number of a text's tokens, without special ones."""


def enough_of(item: Text, max_length: int, side: Side, count: Count) -> Text:
    """As much of a text as a row needs: truncated, it has the tokens of the whole text.

    Args:
        item: a text, a pair of texts, or a list of words, which is returned as it is.
        max_length: most tokens of a row.
        side: the end at which rows lose tokens.
        count: counts tokens.
    """
    if isinstance(item, list):
        return item
    if isinstance(item, str):
        return _part(item, max_length, side, count)
    first, second = (_part(text, max_length, side, count) for text in item)
    if len(first) < len(item[0]) and len(second) < len(item[1]):
        longer = _tokens(item[0], side, count) > _tokens(item[1], side, count)
        # Of an odd room the text with more tokens gets the last one. A part that is repeated has the same first tokens.
        one, other = first, second
        while (count(first) > count(second)) != longer:
            first, second = (first + one, second) if longer else (first, second + other)
    return first, second


def _part(text: str, max_length: int, side: Side, count: Count) -> str:
    length = max(FEWEST, CHARACTERS * max_length)
    while length < len(text):
        part = _cut(text, length, side)
        if count(part) >= max_length + UNUSED:
            return part
        length *= MORE
    return text


def _cut(text: str, length: int, side: Side) -> str:
    """About `length` characters of a longer text; white space belongs to the word behind it."""
    if side == "right":
        places = range(length, max(1, length - NEARBY), -1)
        return text[: next((place for place in places if text[place].isspace()), length)]
    start = len(text) - length
    places = range(start, min(len(text) - 1, start + NEARBY))
    return text[next((place for place in places if text[place].isspace()), start) :]


def _tokens(text: str, side: Side, count: Count) -> int:
    """About how many tokens a text has, counted piece by piece."""
    return sum(count(piece) for piece in _pieces(text, side))


def _pieces(text: str, side: Side) -> Iterator[str]:
    while len(text) > FEWEST:
        piece = _cut(text, FEWEST, side)
        yield piece
        text = text[len(piece) :] if side == "right" else text[: len(text) - len(piece)]
    yield text
