"""Streaming tokens as text: never half a character, never part of a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer writes for bytes that do not form a character yet."""
CONTEXT = 8
"""Prompt tokens decoded with the first new one: some tokenizers drop the space before a first word."""
CHARACTER = 4
"""Maximum bytes per character; tokenizers write an unknown character as one token per byte."""


class TextWriter:
    """The text of one continuation.

    Args:
        tokenizer: a `tokenizers.Tokenizer`.
        prompt: the ids to continue.
        stop: texts that end it.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stop: Sequence[str]) -> None:
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._window = self._end_of(prompt)
        self._known = len(self._window)
        self._told = len(self._decoded(self._window))
        self._held = ""
        self.stopped = False
        """Whether a stop string was found; everything after it was dropped."""

    def write(self, token: int) -> str:
        """The text that this token completes; often none."""
        self._window.append(token)
        text = self._decoded(self._window)
        return "" if text.endswith(UNFINISHED) else self._say(text)

    def finish(self) -> str:
        """The text held back until the end."""
        if self.stopped:
            return ""
        text = self._say(self._decoded(self._window))
        rest, self._held = self._held, ""
        return text + rest

    def _say(self, text: str) -> str:
        fresh = text[self._told :]
        if fresh:
            # The last piece is the context of the next: a token may decode differently on its own.
            self._window = self._window[self._known :]
            self._known = len(self._window)
            self._told = len(self._decoded(self._window))
        return self._before_stop(self._held + fresh)

    def _before_stop(self, text: str) -> str:
        found = [place for place in (text.find(one) for one in self._stop) if place >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        begun = max((_begun(text, one) for one in self._stop), default=0)
        self._held = text[len(text) - begun :]
        return text[: len(text) - begun]

    def _end_of(self, prompt: Sequence[int]) -> list[int]:
        """The last tokens of a prompt, starting at a character boundary.

        From the middle of a character, some tokenizers drop all following bytes, including those of new tokens.
        """
        windows = [list(prompt[-size:]) for size in range(CONTEXT, CONTEXT + CHARACTER)]
        return next((one for one in windows if not self._decoded(one).startswith(UNFINISHED)), windows[0])

    def _decoded(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))


def _begun(text: str, stop: str) -> int:
    """Length of the end of a text that is the start of a stop string."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
