"""Names and numbers that every task shares: a graph's outputs, images, unlabelled tokens, poolings."""

from __future__ import annotations

from typing import Any

LOGITS = "logits"
START, END = "start_logits", "end_logits"
HIDDEN = "last_hidden_state"
SENTENCE = "sentence_embedding"
VECTORS = (HIDDEN, SENTENCE)
"""Outputs in the width of the residual stream."""
PIXELS = "pixel_values"

NO_LABEL = -100
"""The label of a token that carries none: special tokens, padding, all but the first piece of a word."""
POOLINGS = ("mean", "cls")
"""How to pool the last hidden state into an embedding: the mean over attended tokens, or the first token."""


def image_shape(config: Any) -> tuple[int, int, int]:
    """Channels, height and width of the images that a config asks for."""
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return config.num_channels, height, width
