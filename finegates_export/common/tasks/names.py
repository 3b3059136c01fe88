"""Names and numbers that every task shares: a graph's outputs, images, unlabelled tokens, poolings."""

from __future__ import annotations

from finegates_export.common.model_config import ModelConfig

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
"""How an embedding is made of the last hidden state: the mean over attended tokens, or the first token."""


def image_shape(config: ModelConfig) -> tuple[int, int, int]:
    """Channels, height and width of the images that a config asks for."""
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return config.num_channels, height, width
