"""A text being generated: its prompt, the tokens chosen so far, and why it ended.

Shapes: V tokens of the vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from finegates_export.common.tasks.arrays import Array
from finegates_export.runtime.generation import FinishReason, Generation, GenerationOptions
from finegates_export.runtime.limits import Limits
from finegates_export.runtime.sampling import choose
from finegates_export.runtime.writing import TextWriter

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Draft:
    """One prompt and what follows it.

    Args:
        number: the prompt's number; random draws depend on it.
        prompt: token ids.
        tokenizer: a `tokenizers.Tokenizer`.
        limits: the model's limits.
        options: how to continue it.
    """

    def __init__(
        self, number: int, prompt: list[int], tokenizer: Tokenizer, limits: Limits, options: GenerationOptions
    ) -> None:
        self.number, self.prompt = number, prompt
        self._limits, self._options = limits, options
        self._writer = TextWriter(tokenizer, prompt, options.stop)
        self._draws = np.random.default_rng((options.seed, number))
        self._tokens: list[int] = []
        self._pieces: list[str] = []
        self.finish_reason: FinishReason | None = None
        """None while it is being generated."""

    def take(self, logits_V: Array) -> int:
        """Choose the next token and check whether it is the last.

        Args:
            logits_V: logits of the next token.
        """
        token = choose(logits_V, self._options, self._draws)
        self._tokens.append(token)
        ended = token in self._limits.ends
        if not ended:
            self._pieces.append(self._writer.write(token))
        if ended or self._writer.stopped:
            self.finish_reason = "stop"
        elif len(self._tokens) == self._options.max_new_tokens:
            self.finish_reason = "length"
        elif len(self.prompt) + len(self._tokens) > self._limits.positions:
            self.finish_reason = "context"
        if self.finish_reason is not None:
            self._pieces.append(self._writer.finish())
        return token

    @property
    def pieces(self) -> int:
        """Number of text pieces; some are empty."""
        return len(self._pieces)

    def since(self, piece: int) -> str:
        """The text from a given piece on."""
        return "".join(self._pieces[piece:])

    def result(self) -> Generation:
        """The result, once the text has ended."""
        if self.finish_reason is None:
            raise RuntimeError("the text is not finished yet")
        return Generation(self.since(0), tuple(self._tokens), self.finish_reason, len(self.prompt), len(self._tokens))
