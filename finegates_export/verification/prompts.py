"""The inputs that decoders are checked on: texts of mixed lengths, padded on the left, logits counted.

Every token has logits over a whole vocabulary, so the number of tokens is kept small to save time and memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from finegates_export.common.cache_layout import IDS, MASK
from finegates_export.common.tasks import NO_LABEL
from finegates_export.common.tasks.arrays import Array
from finegates_export.verification.inputs import LABELS, ODD_LENGTH, RANDOM_BATCH, REAL_BATCH, Batch
from finegates_export.verification.steps import WRITTEN, CachedForm

if TYPE_CHECKING:
    from torch import Tensor

LONGEST = 128
"""Length of the longest random row."""
LONGEST_REAL = 256
REAL_TOKENS = 1024
"""Tokens of the run's own rows, in total."""
LOGITS_AT_ONCE = 1 << 24
"""Approximate maximum of numbers that one call returns: 64 MiB."""
PROMPT = 8
"""Maximum length of a prompt for the gated model to continue."""
PIECES = (5, 4, 1, 1, 1, 1)
"""Steps for reading the odd row: the prompt, several more tokens, then one by one."""


def make_prompts(samples: dict[str, Tensor] | None, vocabulary: int, max_length: int, seed: int = 0) -> list[Batch]:
    """The batches of a decoder's verification.

    Args:
        samples: the run's rows as tensors, `input_ids` and `attention_mask`; None if it kept none.
        vocabulary: number of ids.
        max_length: the model's maximum length.
        seed: seed of random inputs.

    Returns:
        Real rows first, sorted by length; then random ones: lengths 1, odd and longest, and the odd one in steps.
    """
    generator = np.random.default_rng(seed)
    longest = min(LONGEST, max_length)
    batches = _real(samples, vocabulary) if samples else []
    batches += [_random(generator, vocabulary, n) for n in sorted({1, min(ODD_LENGTH, longest), longest})]
    if longest >= ODD_LENGTH:
        batches.append(Batch(_random(generator, vocabulary, ODD_LENGTH).inputs, steps=PIECES))
    return batches


def _real(samples: dict[str, Tensor], vocabulary: int) -> list[Batch]:
    ids_BS, masks = samples[IDS].numpy(), samples[MASK].numpy().astype(bool)
    labels_BS = samples[LABELS].numpy().astype(np.int64) if LABELS in samples else following(ids_BS, masks)
    rows = [
        np.stack([ids[mask], labels[mask]])[:, :LONGEST_REAL]
        for ids, labels, mask in zip(ids_BS, labels_BS, masks, strict=True)
    ]
    within = np.cumsum([row.shape[1] for row in rows]) <= REAL_TOKENS
    kept = [row for row, fits in zip(rows, within, strict=True) if fits and row.shape[1]] or rows[:1]
    kept.sort(key=lambda row: row.shape[1])
    batches: list[list[Array]] = [[]]
    for row in kept:
        full = (len(batches[-1]) + 1) * row.shape[1] * vocabulary > LOGITS_AT_ONCE or len(batches[-1]) == REAL_BATCH
        if full and batches[-1]:
            batches.append([])
        batches[-1].append(row)
    return [_labelled(rows) for rows in batches]


def _labelled(rows: list[Array]) -> Batch:
    """Rows of ids and labels, shape (2, S) each, as a batch padded on the left."""
    inputs = left_padded([ids for ids, _ in rows])
    length = inputs[IDS].shape[1]
    padded = [np.pad(labels, (length - len(labels), 0), constant_values=NO_LABEL) for _, labels in rows]
    return Batch(inputs, np.stack(padded), real=True)


def following(ids_BS: Array, mask_BS: Array) -> Array:
    """The token that follows each one; `NO_LABEL` where none does."""
    labels_BS = np.full(ids_BS.shape, NO_LABEL, np.int64)
    known = mask_BS[:, :-1] & mask_BS[:, 1:]
    labels_BS[:, :-1][known] = ids_BS[:, 1:][known]
    return labels_BS


def _random(generator: np.random.Generator, vocabulary: int, length: int) -> Batch:
    lengths = [length] * (RANDOM_BATCH - 1) + [max(1, length * 2 // 3)]
    return Batch(left_padded([generator.integers(0, vocabulary, size) for size in lengths]))


def written_by(form: CachedForm, batches: list[Batch], max_length: int) -> list[Batch]:
    """The gated model's continuations of prompts, which every form must match.

    Args:
        form: the gated model.
        batches: the verification's; the first of those long enough gives the prompts.
        max_length: the model's maximum length.
    """
    prompts = next((batch for batch in batches if batch.inputs[IDS].shape[1] >= PROMPT), batches[-1])
    shortened = {name: array[:RANDOM_BATCH, -PROMPT:] for name, array in prompts.inputs.items()}
    count = min(WRITTEN, max_length - shortened[IDS].shape[1])
    return [form.write(Batch(shortened), count)] if count > 0 else []


def left_padded(rows: list[Array]) -> dict[str, Array]:
    """Rows of ids as inputs, as long as the longest of them."""
    length = max(map(len, rows))
    ids = np.stack([np.pad(row, (length - len(row), 0)) for row in rows]).astype(np.int64)
    mask = np.stack([np.pad(np.ones(len(row), np.int64), (length - len(row), 0)) for row in rows])
    return {IDS: ids, MASK: mask}
