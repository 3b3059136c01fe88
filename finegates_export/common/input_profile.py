"""The input shapes that an engine takes: smallest, usual and largest.

A bundle for TensorRT carries them as `profiles.json`:

    {"input_ids": {"min": [1, 1], "opt": [8, 128], "max": [64, 512]}, "attention_mask": ...}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from finegates_export.common.shapes import Shape
from finegates_export.errors import InputError

PROFILES_JSON = "profiles.json"
USUAL = Shape(8, 128)
LARGEST_BATCH = 64
LONGEST = 512
FREE = -1
"""How a graph declares an input axis of any size."""
AXES = 2
"""Batch and sequence: the leading axes that may be free."""

InputSizes = dict[str, dict[str, list[int]]]
"""Of each input, by its name, the smallest (`min`), usual (`opt`) and largest (`max`) sizes."""


@dataclass(frozen=True)
class Profile:
    """Three shapes in non-decreasing order."""

    smallest: Shape
    usual: Shape
    largest: Shape

    def __post_init__(self) -> None:
        three = self.smallest, self.usual, self.largest
        for small, large in pairwise(three):
            if small.batch > large.batch or small.sequence > large.sequence:
                raise ValueError(f"smallest, usual, largest: must not shrink, got {', '.join(map(str, three))}")

    @classmethod
    def up_to(cls, max_length: int) -> Profile:
        """Defaults for a model whose texts have at most this many tokens."""
        usual = Shape(USUAL.batch, min(USUAL.sequence, max_length))
        return cls(Shape(1, 1), usual, Shape(LARGEST_BATCH, max_length))

    @classmethod
    def read(cls, path: Path) -> Profile:
        """Read `profiles.json`.

        Raises:
            InputError: it is damaged.
        """
        try:
            first = next(iter(json.loads(path.read_text(encoding="utf-8")).values()))
            return cls(*(Shape(*(int(size) for size in first[name][:AXES])) for name in ("min", "opt", "max")))
        except (OSError, ValueError, KeyError, TypeError, StopIteration, AttributeError) as error:
            raise InputError(f"{path} is damaged ({error}); export again") from error

    def sizes(self, declared: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """The three sizes of an input, given its declared shape; free axes are not positive.

        Args:
            declared: batch, sequence, and any further axes; images have only a batch.
        """
        return tuple(self._fill(shape, declared) for shape in (self.smallest, self.usual, self.largest))

    def to_json(self, inputs: Mapping[str, Sequence[int]]) -> InputSizes:
        """The content of `profiles.json`.

        Args:
            inputs: the graph's inputs with their declared shapes.
        """
        names = ("min", "opt", "max")
        return {
            name: dict(zip(names, map(list, self.sizes(declared)), strict=True)) for name, declared in inputs.items()
        }

    @staticmethod
    def _fill(shape: Shape, declared: Sequence[int]) -> tuple[int, ...]:
        free = (shape.batch, shape.sequence)
        return tuple(size if size > 0 else free[axis] for axis, size in enumerate(declared))
