"""Entities: runs of words whose labels say where one begins and goes on (IOB, IOBES, BILOU), and how they are scored.

`B-PER I-PER O` marks one person of two words. Labels without such a prefix mark entities if one label is `O`: words of
one label in a row are one entity. Other labels, parts of speech among them, mark none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finegates_export.common.tasks.answers import Entity, Word
from finegates_export.common.tasks.names import NO_LABEL

OUTSIDE = "O"
BEGINS, ENDS, GOES_ON = "BSU", "ELSU", "IELM"
"""First letters of labels: of an entity's first word, of its last, and of one that continues it."""
SEPARATORS = "-_"

Span = tuple[str, int, int]
"""An entity's kind, and its first and last word."""


def marks_entities(labels: Sequence[str]) -> bool:
    """Whether these labels mark entities."""
    return OUTSIDE in labels and len(labels) > 1


def spans_of(tags: Sequence[str]) -> list[Span]:
    """The entities that a row of labels marks.

    An entity begins at a label that says so, or at one that continues another kind, or none: as conlleval counts.

    Args:
        tags: the words' labels, in order.
    """
    spans: list[Span] = []
    going_on = False
    for number, tag in enumerate(tags):
        letter, kind = _parts(tag)
        if kind is None:
            going_on = False
            continue
        if going_on and letter not in BEGINS and spans[-1][0] == kind:
            spans[-1] = (kind, spans[-1][1], number)
        else:
            spans.append((kind, number, number))
        going_on = letter not in ENDS
    return spans


def entity_f1(truth: Sequence[object], predicted: Sequence[object], names: Sequence[str]) -> float:
    """F1 of whole entities over all rows: one counts as found if its kind and both its ends are right.

    Args:
        truth: the labels of each row's tokens, by number; `NO_LABEL` where a token has none.
        predicted: the predicted ones, at least as long.
        names: the labels' names.
    """
    right = wanted = found = 0
    for known, guessed in zip(truth, predicted, strict=True):
        row = np.asarray(known)
        counted = row != NO_LABEL
        own, other = (
            set(spans_of([names[int(number)] for number in side[counted]]))
            for side in (row, np.asarray(guessed)[: len(row)])
        )
        right, wanted, found = right + len(own & other), wanted + len(own), found + len(other)
    return 2 * right / (wanted + found) if right else 0.0


def entities_of(words: Sequence[Word], given: object) -> tuple[Entity, ...]:
    """The entities among labelled words.

    Args:
        words: of one text, in order.
        given: the text, or the list of its words.
    """
    found = []
    for kind, first, last in spans_of([word.label for word in words]):
        own = words[first : last + 1]
        start, end = own[0].start, own[-1].end
        text = given[start:end] if isinstance(given, str) else " ".join(word.text for word in own)
        score = float(np.mean([word.score for word in own]))
        place = (start, end) if isinstance(given, str) else (0, len(text))
        found.append(Entity(text, kind, score, *place, own[0].number, own[-1].number))
    return tuple(found)


def _parts(tag: str) -> tuple[str, str | None]:
    """A label's letter and its kind: none for `O`; a label without a letter continues its own kind."""
    if tag == OUTSIDE:
        return "", None
    if len(tag) > 2 and tag[1] in SEPARATORS and tag[0] in BEGINS + GOES_ON:
        return tag[0], tag[2:]
    return "I", tag
