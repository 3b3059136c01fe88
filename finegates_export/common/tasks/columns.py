"""The usual columns of a table that holds a task's rows."""

from __future__ import annotations

from dataclasses import dataclass

TEXT_COLUMNS = ("sentence", "text", "sentence1", "premise", "question1", "question", "content", "review")
PAIR_COLUMNS = ("sentence2", "hypothesis", "question2", "text2", "text_pair")
LABEL_COLUMNS = ("label", "labels", "score", "target", "class", "stars", "similarity")


@dataclass(frozen=True)
class UsualColumns:
    """The column names to look for, in this order."""

    text: tuple[str, ...] = TEXT_COLUMNS
    pair: tuple[str, ...] = PAIR_COLUMNS
    label: tuple[str, ...] = LABEL_COLUMNS
    needs_pair: bool = False
    """Whether a row without a second text is refused."""
