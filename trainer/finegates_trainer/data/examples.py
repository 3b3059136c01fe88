"""Rows as a model reads them: tokenized, or images opened when needed; collated into tensors.

Shapes: B rows, S tokens, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from finegates_export.common.tasks import NO_LABEL, PIXELS, Task
from finegates_trainer.data.image_files import open_image

Encoded = dict[str, list[int]]
"""One text's token ids, mask and segments, without padding."""


class Examples(Protocol):
    """Rows to train or evaluate on."""

    @property
    def labels(self) -> Sequence[Any]:
        """Labels of `encode_labels`; for answers the first and last token, for (next) tokens one per token."""

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row; 1 for images."""

    @property
    def groups(self) -> list[int] | None:
        """Which rows are ranked together, one number per row; None if rows are not ranked."""

    @property
    def dropped(self) -> int:
        """Number of rows dropped because their answer was truncated."""

    @property
    def cut(self) -> int:
        """Number of rows for text generation that were truncated."""

    def __len__(self) -> int:
        """Number of rows."""

    def collate(self, indices: Sequence[int]) -> tuple[dict[str, Tensor], Tensor]:
        """The model's inputs for some rows, padded to the longest of them, and their labels."""


@dataclass(frozen=True)
class TextExamples:
    """One text per row, or one pair read together."""

    inputs: list[Encoded]
    labels: list[Any]
    pad_token_id: int
    task: Task
    dropped: int = 0
    cut: int = 0
    groups: list[int] | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def lengths(self) -> list[int]:
        """See `Examples`."""
        return [len(row["input_ids"]) for row in self.inputs]

    def collate(self, indices: Sequence[int]) -> tuple[dict[str, Tensor], Tensor]:
        """See `Examples.collate`; labels of tokens are padded with `NO_LABEL`."""
        inputs = pad([self.inputs[i] for i in indices], self.pad_token_id)
        labels = [self.labels[i] for i in indices]
        if self.task.labels_tokens:
            longest = inputs["input_ids"].shape[1]
            labels = [row + [NO_LABEL] * (longest - len(row)) for row in labels]
        return inputs, torch.tensor(labels, dtype=torch.int64 if self.task.whole_labels else torch.float32)


@dataclass(frozen=True)
class PairExamples:
    """Two texts per row, read separately, with one score: 2 B texts, B labels."""

    first: list[Encoded]
    second: list[Encoded]
    labels: list[float]
    pad_token_id: int
    dropped: int = 0
    cut: int = 0
    groups: None = None

    def __len__(self) -> int:
        return len(self.first)

    @property
    def lengths(self) -> list[int]:
        """See `Examples`."""
        pairs = zip(self.first, self.second, strict=True)
        return [max(len(one["input_ids"]), len(other["input_ids"])) for one, other in pairs]

    def collate(self, indices: Sequence[int]) -> tuple[dict[str, Tensor], Tensor]:
        """See `Examples.collate`; the two texts of a pair follow each other."""
        texts = [text for i in indices for text in (self.first[i], self.second[i])]
        return pad(texts, self.pad_token_id), torch.tensor([self.labels[i] for i in indices], dtype=torch.float32)


@dataclass(frozen=True)
class ImageExamples:
    """Image files, opened when collated, so that memory holds only a batch."""

    files: list[Path]
    labels: list[int]
    processor: Any
    """The base's image processor."""
    dropped: int = 0
    cut: int = 0
    groups: None = None

    def __len__(self) -> int:
        return len(self.files)

    @property
    def lengths(self) -> list[int]:
        """See `Examples`."""
        return [1] * len(self.files)

    def collate(self, indices: Sequence[int]) -> tuple[dict[str, Tensor], Tensor]:
        """See `Examples.collate`; pixels as float32 of shape (B, channels, height, width).

        Raises:
            InputError: a file cannot be read; see `open_image`.
        """
        images = [open_image(self.files[i]) for i in indices]
        pixels = self.processor(images=images, return_tensors="pt")[PIXELS]
        return {PIXELS: pixels.float()}, torch.tensor([self.labels[i] for i in indices])


def collate_groups(rows: Examples, indices: Sequence[int]) -> tuple[dict[str, Tensor], Tensor]:
    """`Examples.collate` for losses that compare the rows of a group.

    Returns:
        The model's inputs, and labels of shape (B, 2): a row's label and the number of its group within the batch.

    Raises:
        ValueError: rows without groups.
    """
    if rows.groups is None:
        raise ValueError("rows without groups cannot be compared within them")
    inputs, labels_B = rows.collate(indices)
    # Numbered within the batch: float32 counts no further than 2**24.
    numbers_B = torch.tensor([rows.groups[i] for i in indices]).unique(return_inverse=True)[1]
    return inputs, torch.stack([labels_B, numbers_B.to(labels_B.dtype)], -1)


def pad(rows: list[Encoded], pad_token_id: int) -> dict[str, Tensor]:
    """Right-padded int64 tensors of shape (rows, longest)."""
    longest = max(len(row["input_ids"]) for row in rows)
    filler = {"input_ids": pad_token_id}
    return {
        name: torch.tensor([row[name] + [filler.get(name, 0)] * (longest - len(row[name])) for row in rows])
        for name in rows[0]
    }
