"""Token classification: a label for every word of a text.

Shapes: B rows, S tokens, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from finegates_export.common.tasks.answers import TaggedText, Word
from finegates_export.common.tasks.arrays import (
    Array,
    BatchRead,
    ModelOutputs,
    Outputs,
    RowRead,
    softmax,
    stripped,
)
from finegates_export.common.tasks.columns import UsualColumns
from finegates_export.common.tasks.entities import entities_of, entity_f1, marks_entities
from finegates_export.common.tasks.labels import label_name, name_index
from finegates_export.common.tasks.metrics import accuracy, macro_f1
from finegates_export.common.tasks.names import HIDDEN, LOGITS, NO_LABEL
from finegates_export.common.tasks.places import PlacesInText
from finegates_export.common.tasks.task import Divergence, LossSettings

if TYPE_CHECKING:
    from tokenizers import Encoding
    from torch import Tensor

    from finegates_export.common.tasks.pooling import Pooling


class TokenClassification(PlacesInText):
    """A softmax at every token; a word has the label of its first token."""

    name = "token-classification"
    auto_class = "AutoModelForTokenClassification"
    architecture = "ForTokenClassification"
    output_class = "TokenClassifierOutput"
    outputs = (LOGITS,)
    per_token = (LOGITS, HIDDEN)
    takes = "token classification takes a text or a list of words"
    reads_words = True
    joins_pairs = False
    columns = UsualColumns(text=("tokens", "words"), pair=(), label=("tags", "labels", "ner_tags", "pos_tags"))
    labels_tokens = True
    whole_labels = True
    metrics = {"f1": macro_f1, "accuracy": accuracy}
    entity_metrics = ("entity_f1",)
    gives = "a label for every word, and the entities that they mark"

    def encode_labels(self, labels: Sequence[Sequence[object]], names: Sequence[str], what: str) -> list[list[int]]:
        index = name_index(labels, names, what)
        return [[index[label_name(one)] for one in several] for several in labels]

    def loss(self, outputs: ModelOutputs, labels: Tensor, settings: LossSettings) -> tuple[Tensor, Tensor]:
        from torch.nn import functional

        logits_NC = outputs.logits.float().flatten(0, 1)
        total = functional.cross_entropy(logits_NC, labels.flatten(), ignore_index=NO_LABEL, reduction="sum")
        return total, (labels != NO_LABEL).sum().float()

    def distances(
        self, mine: ModelOutputs, theirs: ModelOutputs, mask_BS: Tensor | None, divergence: Divergence
    ) -> tuple[Tensor, Tensor | None]:
        return divergence(mine.logits, theirs.logits), None if mask_BS is None else mask_BS.float()

    def predictions(
        self, outputs: Outputs, mask_BS: Array | None, pooling: Pooling | None = None, labels: Tensor | None = None
    ) -> list[Array]:
        return list(outputs[LOGITS].argmax(-1))

    def compute_metrics(
        self,
        predicted: Sequence[object],
        truth: Sequence[object],
        groups: Sequence[int] | None = None,
        names: Sequence[str] = (),
    ) -> dict[str, float]:
        found = super().compute_metrics(predicted, truth, groups, names)
        return {**found, "entity_f1": entity_f1(truth, predicted, names)} if marks_entities(names) else found

    def default_metric(self, names: Sequence[str]) -> str:
        return "entity_f1" if marks_entities(names) else super().default_metric(names)

    def compared(self, predicted: Sequence[object], truth: Sequence[object]) -> tuple[Array, Array]:
        return labelled_tokens(predicted, truth)

    def judged(self, outputs: list[Outputs], batches: Sequence[BatchRead]) -> Array:
        predicted = [one[LOGITS].argmax(-1) for one in outputs]
        return np.concatenate([attended(array, batch) for array, batch in zip(predicted, batches, strict=True)])

    def judged_truth(self, batches: Sequence[BatchRead]) -> Array:
        return np.concatenate([attended(np.asarray(batch.labels), batch) for batch in batches])

    def decode(
        self, outputs: Outputs, rows: Sequence[RowRead], labels: Sequence[str], pooling: Pooling | None
    ) -> list[TaggedText]:
        found = [_words(softmax(logits_SC), row, labels) for logits_SC, row in zip(outputs[LOGITS], rows, strict=True)]
        marked = marks_entities(labels)
        return [
            TaggedText(tuple(words), entities_of(words, row.given) if marked else ())
            for words, row in zip(found, rows, strict=True)
        ]


def attended(array_BS: Array, batch: BatchRead) -> Array:
    """The values of a batch's attended tokens."""
    mask = batch.attended
    return array_BS if mask is None else array_BS[mask]


def labelled_tokens(predicted: Sequence[object], truth: Sequence[object]) -> tuple[Array, Array]:
    """Labels and predictions of the labelled tokens; predictions are as long as their batch, labels as their row."""
    known = [np.asarray(row) for row in truth]
    guessed = [np.asarray(row)[: len(labels)] for row, labels in zip(predicted, known, strict=True)]
    one, other = np.concatenate(known), np.concatenate(guessed)
    return one[one != NO_LABEL], other[one != NO_LABEL]


def _words(probabilities_SC: Array, row: RowRead, labels: Sequence[str]) -> list[Word]:
    words: list[Word] = []
    given = row.given
    for number, first in _first_tokens(row.tokens).items():
        if isinstance(given, str):
            text, start, end = stripped(given, *row.tokens.word_to_chars(number))
            if not text:  # byte-level tokenizers make a word of a space before a space
                continue
            place = len(words)
        else:
            text, start, end, place = given[number], 0, len(given[number]), number
        best = int(probabilities_SC[first].argmax())
        words.append(Word(text, labels[best], float(probabilities_SC[first, best]), start, end, place))
    return words


def _first_tokens(encoding: Encoding) -> dict[int, int]:
    """The first token of every word of the text, special tokens apart."""
    first: dict[int, int] = {}
    for token, number in enumerate(encoding.word_ids):
        if number is not None:
            first.setdefault(number, token)
    return first
