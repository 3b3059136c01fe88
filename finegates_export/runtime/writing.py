"""Tokens into text while they come: never half a character, never a part of a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer writes for bytes that are no character yet."""
CONTEXT = 8
"""Tokens of the prompt that the first new one is read with: some tokenizers drop the space in front of a first word."""
CHARACTER = 4
"""Bytes of a character at most; tokenizers write one that they do not know as a token for each."""


class TextWriter:
    """The text of one continuation.

    Args:
        tokenizer: a `tokenizers.Tokenizer`.
        prompt: the ids that are continued.
        stop: texts that end it.
    """

    def __init__(self, tokenizer: Any, prompt: Sequence[int], stop: Sequence[str]) -> None:
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._window = self._end_of(prompt)
        self._known = len(self._window)
        self._told = len(self._decoded(self._window))
        self._held = ""
        self.stopped = False
        """Whether a stop string has come; what followed it was dropped."""

    def write(self, token: int) -> str:
        """What can be said now that this token is known; often nothing."""
        self._window.append(token)
        text = self._decoded(self._window)
        return "" if text.endswith(UNFINISHED) else self._say(text)

    def finish(self) -> str:
        """What was held back, at the end of the tokens."""
        if self.stopped:
            return ""
        text = self._say(self._decoded(self._window))
        rest, self._held = self._held, ""
        return text + rest

    def _say(self, text: str) -> str:
        fresh = text[self._told :]
        if fresh:
            # The last piece is the context of the next: a token alone may read otherwise than behind another.
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
        """The last tokens of a prompt, from the start of a character on.

        From its middle on, some tokenizers read none of the bytes that follow, those of the first new tokens included.
        """
        windows = [list(prompt[-size:]) for size in range(CONTEXT, CONTEXT + CHARACTER)]
        return next((one for one in windows if not self._decoded(one).startswith(UNFINISHED)), windows[0])

    def _decoded(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))


def _begun(text: str, stop: str) -> int:
    """Characters at the end of a text that a stop string begins with."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
