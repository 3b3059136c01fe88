"""Choosing the next token from its logits.

Shapes: V tokens of the vocabulary, K tokens that are drawn among.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from finegates_export.runtime.generation import GenerationOptions

Array = npt.NDArray[Any]
SORTED_AT_FIRST = 64
"""Tokens that are sorted before it is known whether their mass is enough; most distributions need no more."""
GROWTH = 8
"""So many times more are sorted where it is not."""


def choose(logits_V: Array, options: GenerationOptions, generator: np.random.Generator) -> int:
    """One token.

    Args:
        logits_V: of the next token.
        options: greedy, or how it is drawn.
        generator: asked for one number where the token is drawn, for none where it is not.
    """
    if options.temperature == 0:
        return int(logits_V.argmax())
    tokens_K, probabilities_K = distribution(logits_V, options)
    reached_K = probabilities_K.cumsum()
    drawn = int(np.searchsorted(reached_K, generator.random() * reached_K[-1], side="right"))
    return int(tokens_K[min(drawn, len(tokens_K) - 1)])


def distribution(logits_V: Array, options: GenerationOptions) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The tokens that are drawn among, the likeliest first, and their probabilities.

    Temperature comes first, then `top_k`, then `top_p`, as in transformers. In float64: with the many tokens of a
    vocabulary the sum of a float32 softmax is off by more than its small probabilities.

    Args:
        logits_V: of the next token.
        options: with a temperature above 0.
    """
    behind_V = logits_V.astype(np.float64) - logits_V.max()  # first: the likeliest of all stays finite
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
    """The likeliest tokens of `count` whose weights sum to `mass`, the one that crosses it included."""
    sorted_now = min(SORTED_AT_FIRST, count)
    while True:
        tokens = _likeliest(weights_V, sorted_now)
        reached = weights_V[tokens].cumsum()
        if reached[-1] >= mass or sorted_now == count:
            return tokens[: int(np.searchsorted(reached, mass)) + 1]
        sorted_now = min(sorted_now * GROWTH, count)


def _likeliest(weights_V: Array, count: int) -> npt.NDArray[np.int64]:
    """So many tokens, the likeliest first, of equals the one with the smaller id."""
    if count < len(weights_V):
        least = np.partition(weights_V, len(weights_V) - count)[len(weights_V) - count]
        above = np.flatnonzero(weights_V > least)
        tokens = np.concatenate([above, np.flatnonzero(weights_V == least)[: count - len(above)]])
    else:
        tokens = np.arange(len(weights_V))
    return tokens[np.argsort(-weights_V[tokens], kind="stable")]
