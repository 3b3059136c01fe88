"""How a text becomes a graph's inputs: one description, written by training and followed by everything after it.

The tokenizer's own file says how a text is split; these are the choices around it, which its clients make.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from finegates_export.common.options import Options, check

Side = Literal["right", "left"]
SIDES: tuple[Side, ...] = ("right", "left")


@dataclass(frozen=True)
class TextInputs(Options):
    """The choices around a tokenizer. Padding is not among them: it always lies behind a text."""

    max_length: int
    """Most tokens of a row, special ones included."""
    truncation_side: Side = "right"
    """The end at which a longer text loses tokens."""
    segments: bool = True
    """Whether the second text of a pair has segment 1; otherwise every token has segment 0."""
    pad_token_id: int = 0
    """The token that fills shorter rows, which no model attends to."""
    splits_special_tokens: bool = False
    """Whether a special token's name in a text is read as ordinary text."""

    def __post_init__(self) -> None:
        whole = isinstance(self.max_length, int) and not isinstance(self.max_length, bool)
        check(whole and self.max_length > 1, "max_length", f"must be greater than 1, got {self.max_length!r}")
        sides = ", ".join(SIDES)
        check(self.truncation_side in SIDES, "truncation_side", f"{self.truncation_side!r} is not one of {sides}")
        for name in ("segments", "splits_special_tokens"):
            check(isinstance(getattr(self, name), bool), name, f"must be true or false, got {getattr(self, name)!r}")
        known = isinstance(self.pad_token_id, int) and self.pad_token_id >= 0
        check(known, "pad_token_id", f"must be a token's id, got {self.pad_token_id!r}")
