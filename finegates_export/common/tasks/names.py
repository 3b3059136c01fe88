"""Names and numbers that every task shares: a graph's outputs, images, unlabelled tokens."""

from __future__ import annotations

LOGITS = "logits"
START, END = "start_logits", "end_logits"
HIDDEN = "last_hidden_state"
SENTENCE = "sentence_embedding"
VECTORS = (HIDDEN, SENTENCE)
"""Outputs in the width of the residual stream."""
PIXELS = "pixel_values"

NO_LABEL = -100
"""The label of a token that carries none: special tokens, padding, all but the first piece of a word."""
