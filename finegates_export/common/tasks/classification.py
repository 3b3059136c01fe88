"""Classification: one of several labels for each text or pair.

Shapes: B rows, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from finegates_export.common.files import JsonObject
from finegates_export.common.tasks.answers import NUMBER, SCORES, STRING, AnswerTensor, Prediction, Schema
from finegates_export.common.tasks.arrays import Array, ModelOutputs, Outputs, RowRead, by_label, count_of, softmax
from finegates_export.common.tasks.labels import label_name, name_index
from finegates_export.common.tasks.metrics import accuracy, macro_f1, matthews
from finegates_export.common.tasks.names import LOGITS
from finegates_export.common.tasks.task import Divergence, LossSettings, Task

if TYPE_CHECKING:
    from torch import Tensor

    from finegates_export.common.tasks.pooling import Pooling


class Classification(Task):
    """A softmax over the labels; the most likely one is the answer."""

    name = "classification"
    auto_class = "AutoModelForSequenceClassification"
    architecture = "ForSequenceClassification"
    output_class = "SequenceClassifierOutput"
    problem_type: ClassVar[str | None] = "single_label_classification"
    outputs = (LOGITS,)
    one_label = True
    whole_labels = True
    metrics = {"accuracy": accuracy, "f1": macro_f1, "matthews": matthews}
    served = True
    decides = True
    has_page = True
    gives = "a label"

    def encode_labels(self, labels: Sequence[object], names: Sequence[str], what: str) -> list[int]:
        index = name_index(labels, names, what)
        return [index[label_name(label)] for label in labels]

    def loss(self, outputs: ModelOutputs, labels: Tensor, settings: LossSettings) -> tuple[Tensor, Tensor]:
        from torch.nn import functional

        weights = settings.class_weights
        total = functional.cross_entropy(outputs.logits.float(), labels, weight=weights, reduction="sum")
        return total, count_of(labels) if weights is None else weights[labels].sum()

    def distances(
        self, mine: ModelOutputs, theirs: ModelOutputs, mask_BS: Tensor | None, divergence: Divergence
    ) -> tuple[Tensor, Tensor | None]:
        return divergence(mine.logits, theirs.logits), None

    def predictions(
        self, outputs: Outputs, mask_BS: Array | None, pooling: Pooling | None = None, labels: Tensor | None = None
    ) -> list[np.int64]:
        return list(outputs[LOGITS].argmax(-1))

    def decode(
        self, outputs: Outputs, rows: Sequence[RowRead], labels: Sequence[str], pooling: Pooling | None
    ) -> list[Prediction]:
        return [
            Prediction(labels[int(row_C.argmax())], float(row_C.max()), by_label(labels, row_C))
            for row_C in softmax(outputs[LOGITS])
        ]

    def answer_tensors(self, labels: Sequence[str]) -> tuple[AnswerTensor, ...]:
        return AnswerTensor("label", text=True), AnswerTensor("score"), AnswerTensor("scores", width=len(labels))

    def answer_schema(self) -> dict[str, Schema]:
        return {"label": STRING, "score": NUMBER, "scores": SCORES}

    def as_json(self, result: Prediction) -> JsonObject:
        return {"label": result.label, "score": result.score, "scores": result.scores}

    def tensor_row(self, name: str, answer: JsonObject, labels: Sequence[str]) -> object:
        return list(answer["scores"].values()) if name == "scores" else answer[name]
