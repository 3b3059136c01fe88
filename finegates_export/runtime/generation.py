"""Options and results of text generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from finegates_export.common.options import Options, check

FinishReason = Literal["stop", "length", "context"]
"""Why a text ended: an end token or stop string; the maximum of new tokens; no position left in the model."""


@dataclass(frozen=True, kw_only=True)
class GenerationOptions(Options):
    """How to continue texts."""

    max_new_tokens: int = 128
    """Maximum number of new tokens."""
    temperature: float = 0.0
    """Divides the logits before a token is drawn; 0 takes the most likely token (greedy)."""
    top_k: int | None = None
    """Draw among this many most likely tokens; None for all."""
    top_p: float = 1.0
    """Draw among the most likely tokens whose probabilities sum to this, including the one that crosses it."""
    seed: int = 0
    """Seed of the draws; a prompt's draws depend only on it and on the prompt's place in the list."""
    stop: tuple[str, ...] = ()
    """A text ends before the first of these strings."""

    def __post_init__(self) -> None:
        count, kept = self.max_new_tokens, self.top_k
        check(_whole(count) and count > 0, "max_new_tokens", f"must be a positive whole number, got {count}")
        finite = isinstance(self.temperature, (int, float)) and 0 <= self.temperature < float("inf")
        check(finite, "temperature", f"must be 0 (greedy) or a positive number, got {self.temperature}")
        check(kept is None or (_whole(kept) and kept > 0), "top_k", f"must be a positive whole number, got {kept}")
        mass = isinstance(self.top_p, (int, float)) and 0 < self.top_p <= 1
        check(mass, "top_p", f"must be above 0 and at most 1, got {self.top_p}")
        check(_whole(self.seed) and self.seed >= 0, "seed", f"must be a non-negative whole number, got {self.seed}")
        texts = isinstance(self.stop, tuple) and all(isinstance(text, str) and text for text in self.stop)
        check(texts, "stop", f"must be a tuple of non-empty strings, got {self.stop!r}")
        draws = self.temperature > 0
        check(draws or kept is None, "top_k", "has no effect at temperature 0; set a temperature")
        check(draws or self.top_p == 1, "top_p", "has no effect at temperature 0; set a temperature")


@dataclass(frozen=True)
class Generation:
    """The continuation of one prompt."""

    text: str
    """The new text, without the prompt and without a stop string."""
    token_ids: tuple[int, ...]
    """Every chosen token, including an end-of-text token."""
    finish_reason: FinishReason
    prompt_tokens: int
    new_tokens: int
    """Length of `token_ids`."""


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
