"""What every task says of itself; `docs/adding-a-task.md` walks through one.

Nothing here imports torch or transformers before a method needs it.
Shapes: B rows, S tokens, C labels, D hidden size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from finegates_export.common.tasks.answers import AnswerTensor, Result
from finegates_export.common.tasks.arrays import Array, BatchRead, Outputs, RowRead, labelled
from finegates_export.common.tasks.columns import UsualColumns
from finegates_export.common.tasks.metrics import MetricFunction
from finegates_export.common.tasks.names import HIDDEN, LOGITS

if TYPE_CHECKING:
    from torch import Tensor

    from finegates_export.common.pooling import Pooling

RankingLoss = Literal["binary", "mse", "margin"]
Divergence = Callable[[Any, Any], Any]
"""From a student's and a teacher's logits to the divergence of their softened distributions over the last axis."""
EQUAL = "agrees with the gated model on {:.2%} of the predictions"
REQUIRED = ("name", "auto_class", "architecture", "output_class", "outputs", "gives", "metrics")
"""What a task's file has to state; everything else has an answer that most tasks share, or is an abstract method."""


@dataclass(frozen=True)
class LossSettings:
    """What a run fixes about its loss before the first step."""

    class_weights: Tensor | None = None
    """A weight per label, shape (C,); None for equal ones."""
    score_range: tuple[float, float] = (0.0, 1.0)
    """The lowest and highest score of a pair in training, for embeddings."""
    ranking: RankingLoss = "binary"
    """How reranking learns its scores."""


class Task(ABC):
    """A task: what it asks of a model, how it is learned, and what is made of a model's outputs.

    Raises:
        TypeError: a part is missing; the message names the task and the part.
    """

    # The model
    name: ClassVar[str]
    """As users and files write it."""
    auto_class: ClassVar[str]
    """The class of transformers that loads a model for it."""
    architecture: ClassVar[str]
    """What follows the model's name in `architectures` of config.json."""
    output_class: ClassVar[str]
    """The class in which a model of transformers returns its outputs."""
    problem_type: ClassVar[str | None] = None
    """What transformers calls it, where one class serves several tasks."""
    has_head: ClassVar[bool] = True
    """Whether there is anything behind the encoder that is trained with the task."""
    generates: ClassVar[bool] = False
    """Whether it writes text, token by token: its graph has a cache."""
    images: ClassVar[bool] = False
    """Whether it reads images; the others read text."""
    pools: ClassVar[bool] = False
    """Whether a vector is made of the last hidden state by pooling."""

    ranks: ClassVar[bool] = False
    """Whether rows with the same first text are ranked by their scores."""

    # What the graph returns
    outputs: ClassVar[tuple[str, ...]]
    """What a delivered graph returns; pooled embeddings come on top by option."""
    per_token: ClassVar[tuple[str, ...]] = (HIDDEN,)
    """Outputs with a value for every token: they count at attended tokens alone."""
    one_answer: ClassVar[bool] = True
    """Whether the head answers once for a row, for a text without tokens too."""

    # What is read
    takes: ClassVar[str] = "takes a text or a pair of texts"
    """An input, in the words of the message that refuses another."""
    needs_pair: ClassVar[bool] = False
    """Whether an input is always a pair of texts."""
    reads_words: ClassVar[bool] = False
    """Whether an input may be a list of words; its answers then say where each stands."""
    reads_windows: ClassVar[bool] = False
    """Whether a pair that is too long is read in several windows; its answers say where they stand in the second."""
    joins_pairs: ClassVar[bool] = True
    """Whether the two texts of a pair are read as one row."""
    example: ClassVar[Any] = "some text"
    """An input as `predict` takes it."""
    columns: ClassVar[UsualColumns] = UsualColumns()
    """Where a table usually holds its rows."""
    splits_by_pair: ClassVar[bool] = False
    """Whether rows with one second text are held out together; those with one first text are otherwise."""

    # Labels
    named_labels: ClassVar[bool] = True
    """Whether the head has an output for each of a list of labels."""
    one_label: ClassVar[bool] = False
    """Whether a row has exactly one of them."""
    fewest_labels: ClassVar[int] = 2
    labels_tokens: ClassVar[bool] = False
    """Whether every token has a label; `NO_LABEL` where it has none."""
    whole_labels: ClassVar[bool] = False
    """Whether encoded labels are whole numbers; floats otherwise."""

    # Learning
    metrics: ClassVar[Mapping[str, MetricFunction]]
    """From truth and predictions to a value; the first chooses the best checkpoint. None: the task is not trained."""

    # Agreement in the chain of checks
    agreement_told: ClassVar[str] = EQUAL
    """A share of agreement in words."""
    agreement_brief: ClassVar[str] = "{:.1%} equal"
    """The same in the cell of a table."""

    # Servers, the page and the model card
    served: ClassVar[bool] = False
    """Whether `finegates-serve` serves it."""
    answer_output: ClassVar[str] = LOGITS
    """The graph's output that a server's answer is made of."""
    decides: ClassVar[bool] = False
    """Whether a server makes labels of logits; numbers and vectors are answers as they are."""
    several_labels: ClassVar[bool] = False
    """Whether it may give several labels, or none."""
    has_page: ClassVar[bool] = False
    """Whether the page for the browser shows its answers; `page_files/answers.js` then has a reader for it."""
    gives: ClassVar[str]
    """What a model without label names gives, in the words of its card."""

    def __init__(self) -> None:
        missing = [part for part in REQUIRED if not hasattr(self, part)]
        if missing:
            raise TypeError(f"the task {getattr(self, 'name', type(self).__name__)} lacks {', '.join(missing)}")

    # The model

    def head_settings(self, labels: Sequence[str]) -> dict[str, Any]:
        """What transformers has to know of the head, as arguments of `from_pretrained`."""
        settings: dict[str, Any] = {"problem_type": self.problem_type} if self.problem_type else {}
        if not self.named_labels:
            return {**settings, "num_labels": len(self.outputs)}
        names = dict(enumerate(labels))
        return {**settings, "num_labels": len(labels), "id2label": names, "label2id": {v: k for k, v in names.items()}}

    def config_values(self, labels: Sequence[str]) -> dict[str, Any]:
        """What `config.json` of a bundle says of the head."""
        values: dict[str, Any] = {}
        if labels:
            values["id2label"] = {str(i): label for i, label in enumerate(labels)}
            values["label2id"] = {label: i for i, label in enumerate(labels)}
        if self.problem_type:
            values["problem_type"] = self.problem_type
        return values

    # Labels

    @abstractmethod
    def encode_labels(self, labels: Sequence[Any], names: Sequence[str], what: str) -> list[Any]:
        """Labels as training reads them.

        Args:
            labels: of the rows, as `read_data` gives them.
            names: label names in the order of the head's outputs; empty for tasks without.
            what: the rows as messages call them.

        Raises:
            InputError: a label that training has not seen, or one that is not what the task reads.
        """

    # Learning

    def loss_settings(
        self, labels: Sequence[Any], class_weights: Tensor | None = None, ranking: RankingLoss = "binary"
    ) -> LossSettings:
        """What the loss has to know of a run.

        Args:
            labels: all that it trains on, encoded.
            class_weights: a weight per label.
            ranking: the option `ranking_loss`.

        Raises:
            InputError: the loss has nothing to learn from these labels.
        """
        _ = labels
        return LossSettings(class_weights, ranking=ranking)

    @abstractmethod
    def loss(self, outputs: Any, labels: Tensor, settings: LossSettings) -> tuple[Tensor, Tensor]:
        """The loss summed over a batch, in float32, and what it is to be divided by.

        Args:
            outputs: what the model returned.
            labels: of `Examples.collate`.
            settings: of `loss_settings`.
        """

    @abstractmethod
    def distances(
        self, mine: Any, theirs: Any, mask_BS: Tensor | None, divergence: Divergence
    ) -> tuple[Tensor, Tensor | None]:
        """How far a student's outputs are from a teacher's.

        Args:
            mine: the student's outputs.
            theirs: the teacher's.
            mask_BS: the attention mask; None for images.
            divergence: of two logits over a label's or a token's axis.

        Returns:
            A distance for everything that is predicted, and 1 where it counts; None where all of them do.
        """

    @abstractmethod
    def predictions(
        self, outputs: Outputs, mask_BS: Array | None, pooling: Pooling | None = None, labels: Any = None
    ) -> list[Any]:
        """A prediction for every row of a batch, as metrics compare it with the row's label.

        Args:
            outputs: the model's, by name.
            mask_BS: the attention mask; None for images.
            pooling: how embeddings are made, where the model does not return them.
            labels: of the batch, whole numbers of shape (B, S); read where text is generated.
        """

    def compute_metrics(
        self, predicted: Sequence[Any], truth: Sequence[Any], groups: Sequence[int] | None = None
    ) -> dict[str, float]:
        """All metrics.

        Args:
            predicted: a prediction for every row.
            truth: the rows' encoded labels.
            groups: which rows belong together, a number each; read where rows are ranked.
        """
        _ = groups
        one, other = self.compared(predicted, truth)
        return {name: function(one, other) for name, function in self.metrics.items()}

    def compared(self, predicted: Sequence[Any], truth: Sequence[Any]) -> tuple[Array, Array]:
        """Truth and predictions as metrics take them."""
        return np.asarray(truth), np.asarray(predicted)

    # Agreement in the chain of checks

    def kept(self, outputs: Outputs) -> Outputs:
        """What is needed of a batch's outputs to judge them later."""
        return outputs

    def agreement(
        self, before: list[Outputs], after: list[Outputs], batches: Sequence[BatchRead], pooling: Pooling | None
    ) -> float | None:
        """How far two forms of a model predict the same, 1 at most; the share of equal predictions by default.

        Args:
            before: what one returned, batch by batch, of `kept`.
            after: what the other did.
            batches: what both read.
            pooling: how an embedding is made of the last hidden state.
        """
        _ = pooling
        one, other = (self.judged(side, batches) for side in (before, after))
        return float(self.equal(one, other).mean())

    def metric(self, outputs: list[Outputs], batches: Sequence[BatchRead], pooling: Pooling | None) -> float | None:
        """How well predictions meet the labels of the real rows; None without labels."""
        _ = pooling
        labelled_outputs, labelled_batches, labels = labelled(outputs, batches)
        if not labels:
            return None
        predicted = self.judged(labelled_outputs, labelled_batches)
        return float(self.equal(predicted, np.concatenate(labels)).mean())

    def judged(self, outputs: list[Outputs], batches: Sequence[BatchRead]) -> Array:
        """The predictions of all batches that count."""
        parts = [np.asarray(self.predictions(one, batch.attended)) for one, batch in zip(outputs, batches, strict=True)]
        return np.concatenate(parts)

    def equal(self, one: Array, other: Array) -> Array:
        """Which predictions are the same."""
        return np.asarray(one == other)

    # What a loaded bundle answers

    @abstractmethod
    def decode(
        self, outputs: Outputs, rows: Sequence[RowRead], labels: Sequence[str], pooling: Pooling | None
    ) -> list[Any]:
        """What each row of a call says.

        Args:
            outputs: the graph's.
            rows: what it read.
            labels: label names in the order of the logits; empty for tasks without.
            pooling: how an embedding is made; None for other tasks.
        """

    def join(self, found: Sequence[Any], rows: Sequence[RowRead]) -> list[Result]:
        """An answer for every input, from what its rows say.

        Args:
            found: what `decode` gave, row by row.
            rows: those rows, in the order of the inputs.
        """
        _ = rows
        return list(found)

    # Servers

    @abstractmethod
    def answer_tensors(self, labels: Sequence[str]) -> tuple[AnswerTensor, ...]:
        """The tensors of a server's answer; none where it is no tensors."""

    @abstractmethod
    def answer_schema(self) -> dict[str, Any]:
        """The fields of a server's answer and their JSON schemas; none where no server answers."""

    @abstractmethod
    def as_json(self, result: Any) -> dict[str, Any]:
        """A result of `decode` as JSON types."""

    def tensor_row(self, name: str, answer: dict[str, Any], labels: Sequence[str]) -> Any:
        """What a row has in a tensor of the answer: a value, or a list of as many as the tensor is wide.

        Args:
            name: of the tensor.
            answer: of `as_json`.
            labels: label names in the order of the logits.
        """
        _ = labels
        return answer[name]

    def triton_refusal(self, outputs: Collection[str]) -> str | None:
        """Why a repository for Triton cannot serve a graph with these outputs; None where it can."""
        _ = outputs
        return None
