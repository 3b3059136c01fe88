"""Reads long texts without tokenizing all of them: a generous part first, more where that gave too few tokens.

A row keeps at most `max_length` tokens, but a text may have ten million characters, and a tokenizer's record of each
token takes a hundred bytes. Texts are parted in front of white space, where tokenizers part words themselves, and
tokens near the cut are not used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finegates_export.common.text_inputs import Side

if TYPE_CHECKING:
    from finegates_export.runtime.texts import Text

FEWEST = 1 << 11
"""A single text of fewer characters is tokenized whole."""
CHARACTERS = 8
"""Characters of a single text that are read for each token that a row may keep, at first."""
SPARING = 4
"""The same for texts whose tokens beyond the row cost most: of a pair, for truncation records the product of both."""
UNUSED = 128
"""Tokens at the cut that may differ from those of the whole text: a word of a hundred letters may lie across it."""
MORE = 2
"""How much longer the next part is where one gave too few tokens."""
PIECE = 1 << 15
"""Characters that are tokenized together to count a text's tokens."""
NEARBY = 1 << 12
"""Characters that are searched for white space."""

Count = Callable[[str], int]
"""The number of a text's tokens, without special ones."""


@dataclass(frozen=True)
class LongTexts:
    """Takes as much of a text as a row needs: truncated, it has the tokens of the whole text.

    Args:
        max_length: most tokens of a row.
        side: the end at which rows lose tokens.
        count: counts tokens.
    """

    max_length: int
    side: Side
    count: Count

    def enough_of(self, item: Text, *, sparing: bool = False) -> Text:
        """A part of an input.

        Args:
            item: a text, a pair of texts, or a list of words.
            sparing: whether tokens beyond the row are kept with it, so that fewer are to be read.
        """
        if isinstance(item, str):
            usual = max(FEWEST, CHARACTERS * self.max_length)
            return self._part(item, self.max_length, SPARING * self.max_length if sparing else usual)
        return self._words(item) if isinstance(item, list) else self._pair(*item)

    def _pair(self, one: str, other: str) -> tuple[str, str]:
        """Parts of two texts. Of an odd room the text with more tokens gets the last one: that stays the same."""
        first, second = self._sparing(one), self._sparing(other)
        if len(first) == len(one) and len(second) == len(other):
            return one, other
        if len(first) == len(one):
            return one, self._sparing(other, self.count(one))
        if len(second) == len(other):
            return self._sparing(one, self.count(other)), other
        if self._longer(one, other):
            return self._sparing(one, self.count(second)), second
        return first, self._sparing(other, self.count(first))

    def _longer(self, one: str, other: str) -> bool:
        """Whether the first text has more tokens."""
        if one == other:
            return False
        (ones, parted), (others, more) = self._tokens(one), self._tokens(other)
        if not parted + more or abs(ones - others) > UNUSED * (parted + more):
            return ones > others
        return self.count(one) > self.count(other)

    def _tokens(self, text: str) -> tuple[int, int]:
        """The number of a text's tokens, counted piece by piece, and at how many places a word may have been parted.

        Each piece is read with the words before it, whose tokens are subtracted again.
        """
        found = parted = start = 0
        while start < len(text):
            piece = text[start : start + PIECE + 1]
            end = start + len(_cut(piece, PIECE, "right") if len(piece) > PIECE else piece)
            before = text[max(0, start - NEARBY) : start]
            found += self.count(before + text[start:end]) - (self.count(before) if before else 0)
            parted += end < len(text) and not text[end].isspace()
            start = end
        return found, parted

    def _sparing(self, text: str, tokens: int = 0) -> str:
        return self._part(text, max(self.max_length, tokens), SPARING * self.max_length)

    def _part(self, text: str, tokens: int, length: int) -> str:
        """A part with so many tokens and some to spare; else the whole text."""
        while length < len(text):
            part = _cut(text, length, self.side)
            if self.count(part) >= tokens + UNUSED:
                return part
            length *= MORE
        return text

    def _words(self, words: list[str]) -> list[str]:
        """The first words; those of a row that loses the first ones are all there, for answers have their numbers."""
        number = self.max_length
        while self.side == "right" and number < len(words):
            if sum(map(self.count, words[:number])) >= 2 * self.max_length:  # some count a mark before each word
                return words[:number]
            number *= MORE
        return words


def _cut(text: str, length: int, side: Side) -> str:
    """About `length` characters of a longer text; white space belongs to the word behind it."""
    if side == "right":
        places = range(length, max(1, length - NEARBY), -1)
        return text[: next((place for place in places if text[place].isspace()), length)]
    start = len(text) - length
    places = range(start, min(len(text) - 1, start + NEARBY))
    return text[next((place for place in places if text[place].isspace()), start) :]
