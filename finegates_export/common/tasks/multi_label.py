"""Multi-label classification: any number of labels for each text or pair.

Shapes: B rows, C labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from finegates_export.common.files import JsonObject
from finegates_export.common.tasks.answers import SCORES, STRING, AnswerTensor, LabelSet, Schema
from finegates_export.common.tasks.arrays import Array, ModelOutputs, Outputs, RowRead, by_label, count_of
from finegates_export.common.tasks.columns import UsualColumns
from finegates_export.common.tasks.labels import label_name, name_index
from finegates_export.common.tasks.metrics import accuracy, macro_f1, micro_f1
from finegates_export.common.tasks.names import LOGITS
from finegates_export.common.tasks.task import Divergence, LossSettings, Task

if TYPE_CHECKING:
    from torch import Tensor

    from finegates_export.common.tasks.pooling import Pooling


class MultiLabel(Task):
    """A decision for every label: those with a probability above one half are the answer."""

    name = "multi-label"
    auto_class = "AutoModelForSequenceClassification"
    architecture = "ForSequenceClassification"
    output_class = "SequenceClassifierOutput"
    problem_type = "multi_label_classification"
    outputs = (LOGITS,)
    columns = UsualColumns(label=("labels", "label", "tags", "classes"))
    fewest_labels = 1
    several_labels = True
    metrics = {"f1_micro": micro_f1, "f1_macro": macro_f1, "accuracy": accuracy}
    served = True
    decides = True
    has_page = True
    gives = "labels"

    def encode_labels(self, labels: Sequence[Sequence[object]], names: Sequence[str], what: str) -> list[list[float]]:
        index = name_index(labels, names, what)
        chosen = [[index[label_name(one)] for one in several] for several in labels]
        return [[float(i in row) for i in range(len(names))] for row in chosen]

    def loss(self, outputs: ModelOutputs, labels: Tensor, settings: LossSettings) -> tuple[Tensor, Tensor]:
        from torch.nn import functional

        logits_BC = outputs.logits.float()
        total = functional.binary_cross_entropy_with_logits(logits_BC, labels, reduction="sum")
        return total, count_of(labels)

    def distances(
        self, mine: ModelOutputs, theirs: ModelOutputs, mask_BS: Tensor | None, divergence: Divergence
    ) -> tuple[Tensor, Tensor | None]:
        from torch.nn import functional

        wanted = theirs.logits.float().sigmoid()
        return functional.binary_cross_entropy_with_logits(mine.logits.float(), wanted, reduction="none"), None

    def predictions(
        self, outputs: Outputs, mask_BS: Array | None, pooling: Pooling | None = None, labels: Tensor | None = None
    ) -> list[Array]:
        return list((outputs[LOGITS] > 0).astype(np.int64))

    def decode(
        self, outputs: Outputs, rows: Sequence[RowRead], labels: Sequence[str], pooling: Pooling | None
    ) -> list[LabelSet]:
        logits_BC = outputs[LOGITS]
        probabilities_BC = 1 / (1 + np.exp(-logits_BC))
        chosen = [tuple(name for name, logit in zip(labels, row, strict=True) if logit > 0) for row in logits_BC]
        return [LabelSet(names, by_label(labels, row)) for names, row in zip(chosen, probabilities_BC, strict=True)]

    def answer_tensors(self, labels: Sequence[str]) -> tuple[AnswerTensor, ...]:
        return AnswerTensor("label", text=True, width=len(labels)), AnswerTensor("scores", width=len(labels))

    def answer_schema(self) -> dict[str, Schema]:
        return {"labels": {"type": "array", "items": STRING}, "scores": SCORES}

    def as_json(self, result: LabelSet) -> JsonObject:
        return {"labels": list(result.labels), "scores": result.scores}

    def tensor_row(self, name: str, answer: JsonObject, labels: Sequence[str]) -> object:
        if name == "scores":
            return list(answer["scores"].values())
        # A tensor cannot have rows of different lengths: an empty name stands for a missing label.
        return [label if label in answer["labels"] else "" for label in labels]
