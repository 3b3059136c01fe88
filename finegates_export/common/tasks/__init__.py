"""The tasks a model is trained and exported for, one file each. To add one, see docs/adding-a-task.md."""

from __future__ import annotations

from finegates_export.common.tasks.classification import Classification
from finegates_export.common.tasks.embedding import Embedding
from finegates_export.common.tasks.feature_extraction import FeatureExtraction
from finegates_export.common.tasks.image_classification import ImageClassification
from finegates_export.common.tasks.multi_label import MultiLabel
from finegates_export.common.tasks.names import (
    END,
    HIDDEN,
    LOGITS,
    NO_LABEL,
    PIXELS,
    SENTENCE,
    START,
    VECTORS,
)
from finegates_export.common.tasks.question_answering import QuestionAnswering
from finegates_export.common.tasks.regression import Regression
from finegates_export.common.tasks.reranking import Reranking
from finegates_export.common.tasks.task import LossSettings, Task
from finegates_export.common.tasks.text_generation import TextGeneration
from finegates_export.common.tasks.token_classification import TokenClassification
from finegates_export.errors import UnsupportedError

__all__ = [
    "END",
    "HIDDEN",
    "LOGITS",
    "NO_LABEL",
    "PIXELS",
    "SENTENCE",
    "START",
    "TASKS",
    "VECTORS",
    "LossSettings",
    "Task",
    "graph_outputs",
    "task_of",
]

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Classification(),
        MultiLabel(),
        Regression(),
        TokenClassification(),
        QuestionAnswering(),
        FeatureExtraction(),
        Embedding(),
        ImageClassification(),
        TextGeneration(),
        Reranking(),
    )
}
"""Every task by its name."""


def task_of(name: str) -> Task:
    """A task by its name.

    Raises:
        UnsupportedError: there is none of that name.
    """
    if name not in TASKS:
        raise UnsupportedError(f"task {name!r} is not supported; supported are: {', '.join(TASKS)}")
    return TASKS[name]


def graph_outputs(task: Task, *, pooled: bool = False) -> tuple[str, ...]:
    """The outputs of a delivered graph, in order.

    Args:
        task: the task.
        pooled: whether the graph pools the sentence embedding itself.
    """
    return (*task.outputs, SENTENCE) if pooled else task.outputs
