"""Choosing the next token from its logits.

Shapes: V tokens of the vocabulary, K tokens to draw among.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from finegates_export.common.tasks.arrays import Array
from finegates_export.runtime.generation import GenerationOptions

SORTED_AT_FIRST = 64
"""Number of tokens sorted at first; most distributions need no more for their mass."""
GROWTH = 8
"""Factor by which that number grows if their mass is too small."""


def choose(logits_V: Array, options: GenerationOptions, generator: np.random.Generator) -> int:
    """Choose one token.

    Args:
        logits_V: logits of the next token.
        options: greedy, or how to draw.
        generator: used for one number if a token is drawn, for none if greedy.
    """
    if options.temperature == 0:
        return int(logits_V.argmax())
    tokens_K, probabilities_K = distribution(logits_V, options)
    reached_K = probabilities_K.cumsum()
    drawn = int(np.searchsorted(reached_K, generator.random() * reached_K[-1], side="right"))
    return int(tokens_K[min(drawn, len(tokens_K) - 1)])


def distribution(logits_V: Array, options: GenerationOptions) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The tokens to draw among, most likely first, and their probabilities.

    Temperature comes first, then `top_k`, then `top_p`, as in transformers. In float64: over a whole
    vocabulary, the rounding error of a float32 softmax exceeds its small probabilities.

    Args:
        logits_V: logits of the next token.
        options: with a temperature above 0.
    """
    behind_V = logits_V.astype(np.float64) - logits_V.max()  # first, so that the most likely token stays finite
    with np.errstate(over="ignore"):
        weights_V = np.exp(behind_V / options.temperature)
    size = len(weights_V)
    count = min(options.top_k or size, size)
    tokens_K = _likeliest(weights_V, count) if count < size or options.top_p == 1 else np.empty(0, np.int64)
    if options.top_p < 1:
        total = weights_V[tokens_K].sum() if len(tokens_K) else weights_V.sum()
        tokens_K = _holding(weights_V, options.top_p * total, count)
    weights_K = weights_V[tokens_K]
    return tokens_K, weights_K / weights_K.sum()


def _holding(weights_V: Array, mass: float, count: int) -> npt.NDArray[np.int64]:
    """The most likely of `count` tokens whose weights sum to `mass`, including the one that crosses it."""
    sorted_now = min(SORTED_AT_FIRST, count)
    while True:
        tokens = _likeliest(weights_V, sorted_now)
        reached = weights_V[tokens].cumsum()
        if reached[-1] >= mass or sorted_now == count:
            return tokens[: int(np.searchsorted(reached, mass)) + 1]
        sorted_now = min(sorted_now * GROWTH, count)


def _likeliest(weights_V: Array, count: int) -> npt.NDArray[np.int64]:
    """This many tokens, most likely first; ties go to the smaller id."""
    if count < len(weights_V):
        least = np.partition(weights_V, len(weights_V) - count)[len(weights_V) - count]
        above = np.flatnonzero(weights_V > least)
        tokens = np.concatenate([above, np.flatnonzero(weights_V == least)[: count - len(above)]])
    else:
        tokens = np.arange(len(weights_V))
    return tokens[np.argsort(-weights_V[tokens], kind="stable")]
