"""The tasks a model is trained and exported for, each said once: head, outputs, unit of prediction.

Everything that differs between tasks is read from here; this module imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from finegates_export.errors import UnsupportedError

LOGITS = "logits"
START, END = "start_logits", "end_logits"
HIDDEN = "last_hidden_state"
SENTENCE = "sentence_embedding"
VECTORS = (HIDDEN, SENTENCE)
"""Outputs in the width of the residual stream."""
PIXELS = "pixel_values"

NO_LABEL = -100
"""The label of a token that carries none: special tokens, padding, all but the first piece of a word."""

Unit = Literal["row", "label", "score", "token", "span", "vector", "next"]
"""What one prediction is: a row's label, a yes or no for a row and label, a row's number, a token's label, the first
and last token of an answer, a vector, the token that follows each token."""
TOKEN_UNITS: tuple[Unit, ...] = ("token", "next")
"""Those with a label for every token."""


@dataclass(frozen=True)
class Task:
    """What a task asks of a model."""

    name: str
    """As users and files write it."""
    unit: Unit
    auto_class: str
    """The class of transformers that loads a model for it."""
    architecture: str
    """What follows the model's name in `architectures` of config.json."""
    outputs: tuple[str, ...]
    """What a delivered graph returns; pooled embeddings come on top by option."""
    per_token: tuple[str, ...] = (HIDDEN,)
    """Outputs with a value for every token: they count at attended tokens alone."""
    named_labels: bool = True
    """Whether the head has an output for each of a list of labels."""
    problem_type: str | None = None
    """What transformers calls it, where one class serves several tasks."""
    images: bool = False
    """Whether it reads images; the others read text, those without a head either."""

    @property
    def generates(self) -> bool:
        """Whether it writes text, token by token: its graph has a cache."""
        return self.unit == "next"

    @property
    def has_head(self) -> bool:
        """Whether there is anything behind the encoder that is trained with the task."""
        return self.unit != "vector"


_SEQUENCE = ("AutoModelForSequenceClassification", "ForSequenceClassification")

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("classification", "row", *_SEQUENCE, (LOGITS,), problem_type="single_label_classification"),
        Task("multi-label", "label", *_SEQUENCE, (LOGITS,), problem_type="multi_label_classification"),
        Task("regression", "score", *_SEQUENCE, (LOGITS,), named_labels=False, problem_type="regression"),
        Task(
            "token-classification", "token", "AutoModelForTokenClassification", "ForTokenClassification", (LOGITS,),
            per_token=(LOGITS, HIDDEN),
        ),
        Task(
            "question-answering", "span", "AutoModelForQuestionAnswering", "ForQuestionAnswering", (START, END),
            per_token=(START, END, HIDDEN), named_labels=False,
        ),
        Task("feature-extraction", "vector", "AutoModel", "Model", (HIDDEN,), named_labels=False),
        Task("embedding", "vector", "AutoModel", "Model", (HIDDEN,), named_labels=False),
        Task(
            "image-classification", "row", "AutoModelForImageClassification", "ForImageClassification", (LOGITS,),
            images=True,
        ),
        Task(
            "text-generation", "next", "AutoModelForCausalLM", "ForCausalLM", (LOGITS,), per_token=(LOGITS, HIDDEN),
            named_labels=False,
        ),
    )
}  # fmt: skip
"""Every task by its name."""

POOLINGS = ("mean", "cls")
"""How an embedding is made of the last hidden state: the mean over attended tokens, or the first token."""


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


def image_shape(config: Any) -> tuple[int, int, int]:
    """Channels, height and width of the images that a config asks for."""
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return config.num_channels, height, width
