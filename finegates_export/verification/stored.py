"""What the reference returned, batch by batch: in memory, or on disk where logits run over a vocabulary.

128 tokens of logits over 49,152 words are 25 MB, and the reference is held until the last form was compared with it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from finegates_export.common.tasks.arrays import Outputs


class Stored:
    """A list of outputs that is appended to and read in order.

    Args:
        on_disk: keep them in temporary files, gone with this object.
    """

    def __init__(self, *, on_disk: bool) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="finegates-") if on_disk else None
        self._held: list[Outputs] = []
        self._count = 0

    def append(self, outputs: Outputs) -> None:
        """Keep one batch's outputs."""
        if self._folder is None:
            self._held.append(outputs)
        else:
            np.savez(self._file(self._count), **outputs)  # type: ignore[arg-type]  # its stubs take the names for options
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Outputs]:
        if self._folder is None:
            yield from self._held
            return
        for number in range(self._count):
            with np.load(self._file(number)) as arrays:
                yield {name: arrays[name] for name in arrays.files}

    def _file(self, number: int) -> Path:
        assert self._folder is not None  # noqa: S101  # for the type checker: files are asked for where there are some
        return Path(self._folder.name) / f"{number}.npz"
