"""The shape of an input: rows x tokens. Light: measuring processes import it."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """Batch x sequence; written `8x128`."""

    batch: int
    sequence: int

    @classmethod
    def parse(cls, text: str) -> Shape:
        """Read `8x128`.

        Raises:
            ValueError: not two positive numbers joined by an x.
        """
        found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text.strip().lower())
        if not found:
            raise ValueError(f"{text!r} is not a shape; write BATCHxSEQUENCE, as in 8x128")
        return cls(int(found[1]), int(found[2]))

    @property
    def tokens(self) -> int:
        """Rows of every product: batch times sequence."""
        return self.batch * self.sequence

    def __str__(self) -> str:
        return f"{self.batch}x{self.sequence}"
