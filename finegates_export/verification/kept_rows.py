"""The evaluation rows that a run folder keeps are checked before anything indexes with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finegates_export.common.tasks import PIXELS, Task
from finegates_export.errors import RunFolderError
from finegates_export.families.model_config import ModelConfig, image_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from finegates_export.sources.sample_texts import SampleText

IDS, MASK, LABELS = "input_ids", "attention_mask", "labels"
DAMAGED = "samples.safetensors is damaged: {}; restore the run folder or train again"
TEXT_AXES, IMAGE_AXES = 2, 4
TEXTS_A_LABEL = 2
"""Rows that may share a label: the two texts of a scored pair."""


def check_rows(samples: dict[str, Tensor] | None, task: Task, config: ModelConfig, names: tuple[str, ...]) -> None:
    """Refuse kept rows that are not inputs of the model.

    Args:
        samples: the run's rows as tensors; None if it kept none.
        task: the run's task.
        config: the base's config: how many ids there are, or how large images are.
        names: the model's inputs.

    Raises:
        RunFolderError: rows are missing, of other shapes, out of range or not finite.
    """
    if samples is None:
        return
    wrong = _wrong_images(samples, config) if names == (PIXELS,) else _wrong_texts(samples, task, config, names)
    if wrong:
        raise RunFolderError(DAMAGED.format(wrong))


def check_texts(texts: Sequence[SampleText], config: ModelConfig, most: int) -> None:
    """Refuse kept texts whose rows are not inputs of the model.

    Args:
        texts: a run's texts, with the tokens that training read.
        config: the base's config: how many ids there are.
        most: the model's maximum length.

    Raises:
        RunFolderError: a token or a segment has no embedding, or a row is longer than the model reads.
    """
    segments = _segments(config)
    for text in texts:
        token, segment = max(text.ids, default=0), max(text.segments, default=0)
        if token >= config.vocab_size or segment >= segments or len(text.ids) > most:
            raise RunFolderError(
                f"texts.json is damaged: {text.told} has {len(text.ids)} tokens up to {token} and segments up to "
                f"{segment}, the model takes {most} tokens below {config.vocab_size} and segments below {segments}; "
                "restore the run folder or train again"
            )


def _wrong_images(samples: dict[str, Tensor], config: ModelConfig) -> str | None:
    if PIXELS not in samples:
        return f"it has no {PIXELS}"
    pixels = samples[PIXELS]
    if pixels.ndim != IMAGE_AXES or tuple(pixels.shape[1:]) != image_shape(config) or not len(pixels):
        return f"{PIXELS} has shape {tuple(pixels.shape)}, the model takes images of {image_shape(config)}"
    if not pixels.is_floating_point() or not bool(pixels.isfinite().all()):
        return f"{PIXELS} holds values that are no finite numbers"
    return _wrong_labels(samples, len(pixels), together=1)


def _wrong_texts(samples: dict[str, Tensor], task: Task, config: ModelConfig, names: tuple[str, ...]) -> str | None:
    for name in (IDS, MASK):
        if name not in samples:
            return f"it has no {name}"
    shape = tuple(samples[IDS].shape)
    if len(shape) != TEXT_AXES or 0 in shape:
        return f"{IDS} has shape {shape}, not rows of tokens"
    most = {IDS: config.vocab_size, MASK: 2, "token_type_ids": _segments(config)}
    for name in (one for one in dict.fromkeys((IDS, MASK, *names)) if one in samples):
        tensor = samples[name]
        if tuple(tensor.shape) != shape or tensor.is_floating_point():
            return f"{name} has shape {tuple(tensor.shape)} and type {tensor.dtype}, {IDS} has {shape}"
        low, high = int(tensor.min()), int(tensor.max())
        if low < 0 or high >= most.get(name, shape[1] + config.vocab_size):
            return f"{name} holds {low if low < 0 else high}, which the model has no embedding for"
    return _wrong_labels(samples, shape[0], together=1 if task.joins_pairs else TEXTS_A_LABEL)


def _segments(config: ModelConfig) -> int:
    """How many segments a model tells apart; two are written for one that passes over them."""
    return getattr(config, "type_vocab_size", None) or 2


def _wrong_labels(samples: dict[str, Tensor], rows: int, together: int) -> str | None:
    labels = samples.get(LABELS)
    if labels is None:
        return None
    if labels.ndim == 0 or (len(labels) * together != rows and len(labels) != rows):
        return f"labels has shape {tuple(labels.shape)} for {rows} rows"
    return None if bool(labels.isfinite().all()) else "labels holds values that are no finite numbers"
