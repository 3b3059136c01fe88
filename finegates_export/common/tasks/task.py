"""What every task defines; `docs/adding-a-task.md` walks through one.

Nothing here imports torch or transformers before a method needs it.
Shapes: B rows, S tokens, C labels, D hidden size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from finegates_export.common.files import JsonObject
from finegates_export.common.tasks.answers import AnswerTensor, Result, Schema
from finegates_export.common.tasks.arrays import Array, BatchRead, Outputs, RowRead, labelled
from finegates_export.common.tasks.columns import UsualColumns
from finegates_export.common.tasks.metrics import MetricFunction
from finegates_export.common.tasks.names import HIDDEN, LOGITS, NO_LABEL

if TYPE_CHECKING:
    from torch import Tensor

    from finegates_export.common.tasks.pooling import Pooling

RankingLoss = Literal["binary", "mse", "margin"]
Divergence = Callable[["Tensor", "Tensor"], "Tensor"]
"""From a student's and a teacher's logits to the divergence of their softened distributions over the last axis."""
EQUAL = "agrees with the gated model on {:.2%} of the predictions"
REQUIRED = ("name", "auto_class", "architecture", "output_class", "outputs", "gives", "metrics")
"""What every task must set; everything else has a default that suits most tasks, or is an abstract method."""


@dataclass(frozen=True)
class LossSettings:
    """What a run fixes about its loss before the first step."""

    class_weights: Tensor | None = None
    """One weight per label, shape (C,); None for equal weights."""
    score_range: tuple[float, float] = (0.0, 1.0)
    """The lowest and highest score of a pair in training, for embeddings."""
    ranking: RankingLoss = "binary"
    """How reranking learns its scores."""


class Task(ABC):
    """A task: what it needs from a model, how the model learns it, and what becomes of the model's outputs.

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
    """transformers' name for it, if one class serves several tasks."""
    has_head: ClassVar[bool] = True
    """Whether it adds a trained head to the encoder."""
    generates: ClassVar[bool] = False
    """Whether it writes text, token by token: its graph has a cache."""
    images: ClassVar[bool] = False
    """Whether it reads images; the others read text."""
    pools: ClassVar[bool] = False
    """Whether the last hidden state is pooled into one vector."""
    ranks: ClassVar[bool] = False
    """Whether rows with the same first text are ranked by their scores."""

    # What the graph returns
    outputs: ClassVar[tuple[str, ...]]
    """What a delivered graph returns; options add pooled embeddings."""
    per_token: ClassVar[tuple[str, ...]] = (HIDDEN,)
    """Outputs with a value for every token; only attended tokens count."""
    one_answer: ClassVar[bool] = True
    """Whether the head gives one answer per row, even for a text without tokens."""

    # What is read
    takes: ClassVar[str] = "takes a text or a pair of texts"
    """What an input must be, as error messages put it."""
    needs_pair: ClassVar[bool] = False
    """Whether an input is always a pair of texts."""
    reads_words: ClassVar[bool] = False
    """Whether an input may be a list of words; its answers then give each word's position."""
    reads_windows: ClassVar[bool] = False
    """Whether a pair that is too long is read in several windows; answers give their position in the second text."""
    joins_pairs: ClassVar[bool] = True
    """Whether the two texts of a pair are read as one row."""
    example: ClassVar[str | tuple[str, str]] = "some text"
    """An input as `predict` takes it."""
    columns: ClassVar[UsualColumns] = UsualColumns()
    """The usual columns of its rows."""
    splits_by_pair: ClassVar[bool] = False
    """Whether held-out rows are grouped by their second text rather than their first."""

    # Labels
    named_labels: ClassVar[bool] = True
    """Whether the head has an output for each of a list of labels."""
    one_label: ClassVar[bool] = False
    """Whether a row has exactly one label."""
    fewest_labels: ClassVar[int] = 2
    labels_tokens: ClassVar[bool] = False
    """Whether labels belong to tokens; tokens without one have `NO_LABEL`."""
    whole_labels: ClassVar[bool] = False
    """Whether encoded labels are integers; floats otherwise."""

    # Learning
    metrics: ClassVar[Mapping[str, MetricFunction]]
    """From truth and predictions to a value; the first one selects the best checkpoint. Without any, the task is not
    trained."""
    entity_metrics: ClassVar[tuple[str, ...]] = ()
    """Names of more metrics, of `compute_metrics`, for labels that mark entities."""

    # Agreement in the chain of checks
    countable: ClassVar[bool] = True
    """Whether predictions are equal or not, and can be counted; scores and vectors cannot."""
    agreement_told: ClassVar[str] = EQUAL
    """The agreement as a sentence says it."""
    agreement_brief: ClassVar[str] = "{:.1%} equal"
    """The agreement in a table's cell."""

    # Servers, the page and the model card
    served: ClassVar[bool] = False
    """Whether `finegates-serve` serves it."""
    answer_output: ClassVar[str] = LOGITS
    """The graph output behind a server's answer."""
    decides: ClassVar[bool] = False
    """Whether a server turns logits into labels; numbers and vectors are already answers."""
    several_labels: ClassVar[bool] = False
    """Whether an answer may have several labels, or none."""
    has_page: ClassVar[bool] = False
    """Whether the browser page can show its answers; `page_files/answers.js` then needs a reader for it."""
    gives: ClassVar[str]
    """What the model returns, as its card says if there are no label names."""

    def __init__(self) -> None:
        missing = [part for part in REQUIRED if not hasattr(self, part)]
        if missing:
            raise TypeError(f"the task {getattr(self, 'name', type(self).__name__)} lacks {', '.join(missing)}")

    # The model

    def head_settings(self, labels: Sequence[str]) -> dict[str, object]:
        """The arguments of `from_pretrained` that describe the head."""
        settings: dict[str, object] = {"problem_type": self.problem_type} if self.problem_type else {}
        if not self.named_labels:
            return {**settings, "num_labels": len(self.outputs)}
        names = dict(enumerate(labels))
        return {**settings, "num_labels": len(labels), "id2label": names, "label2id": {v: k for k, v in names.items()}}

    def config_values(self, labels: Sequence[str]) -> dict[str, object]:
        """The values in a bundle's `config.json` that describe the head."""
        values: dict[str, object] = {}
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
            labels: the rows' labels, of `read_data`.
            names: label names in the order of the head's outputs; empty for tasks without.
            what: what messages call the rows.

        Raises:
            InputError: a label that the training rows lack, or one that the task cannot read.
        """

    # Learning

    def loss_settings(
        self, labels: Sequence[Any], class_weights: Tensor | None = None, ranking: RankingLoss = "binary"
    ) -> LossSettings:
        """What the loss needs to know about a run.

        Args:
            labels: all encoded training labels.
            class_weights: one weight per label.
            ranking: the option `ranking_loss`.

        Raises:
            InputError: the loss has nothing to learn from these labels.
        """
        _ = labels
        return LossSettings(class_weights, ranking=ranking)

    @abstractmethod
    def loss(self, outputs: Any, labels: Tensor, settings: LossSettings) -> tuple[Tensor, Tensor]:
        """The loss summed over a batch, in float32, and the count to divide it by.

        Args:
            outputs: the model's outputs.
            labels: labels of `Examples.collate`.
            settings: the result of `loss_settings`.
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
            divergence: compares two logits over their last axis.

        Returns:
            A distance per prediction, and 1 where it counts, 0 elsewhere; None if all count.
        """

    @abstractmethod
    def predictions(
        self, outputs: Outputs, mask_BS: Array | None, pooling: Pooling | None = None, labels: Tensor | None = None
    ) -> list[Any]:
        """One prediction per row of a batch, in the form that metrics compare with labels.

        Args:
            outputs: the model's outputs, by name.
            mask_BS: the attention mask; None for images.
            pooling: how to make embeddings if the model does not return them.
            labels: the batch's labels, integers of shape (B, S); used for text generation.
        """

    def compute_metrics(
        self,
        predicted: Sequence[object],
        truth: Sequence[object],
        groups: Sequence[int] | None = None,
        names: Sequence[str] = (),
    ) -> dict[str, float]:
        """All metrics.

        Args:
            predicted: one prediction per row.
            truth: the rows' encoded labels.
            groups: which rows are ranked together, one number per row.
            names: the labels' names, in the order of the head's outputs.
        """
        _ = groups, names
        one, other = self.compared(predicted, truth)
        return {name: function(one, other) for name, function in self.metrics.items()}

    def default_metric(self, names: Sequence[str]) -> str:
        """The metric that selects the best checkpoint, unless another is asked for.

        Args:
            names: the labels' names.
        """
        _ = names
        return next(iter(self.metrics), "")

    def compared(self, predicted: Sequence[object], truth: Sequence[object]) -> tuple[Array, Array]:
        """Truth and predictions in the form that metrics take."""
        return np.asarray(truth), np.asarray(predicted)

    # Agreement in the chain of checks

    def kept(self, outputs: Outputs, batch: BatchRead) -> Outputs:
        """The part of a batch's outputs that judging needs."""
        _ = batch
        return outputs

    def agreement(
        self, before: list[Outputs], after: list[Outputs], batches: Sequence[BatchRead], pooling: Pooling | None
    ) -> float | None:
        """How far two forms of a model agree, at most 1; by default the share of equal predictions.

        Args:
            before: one form's outputs per batch, of `kept`.
            after: the other form's outputs.
            batches: the batches both read.
            pooling: how to pool the last hidden state into an embedding.
        """
        _ = pooling
        one, other = (self.judged(side, batches) for side in (before, after))
        return float(self.equal(one, other).mean())

    def measured(
        self, outputs: list[Outputs], batches: Sequence[BatchRead], pooling: Pooling | None, names: Sequence[str] = ()
    ) -> dict[str, float]:
        """All metrics on the batches that have labels, by `compute_metrics`; empty without labels.

        Args:
            outputs: a form's outputs per batch, of `kept`.
            batches: the batches it read.
            pooling: how to pool the last hidden state into an embedding.
            names: the labels' names.
        """
        own, read, labels = labelled(outputs, batches)
        if not self.metrics or not labels:
            return {}
        truth = [row for array in labels for row in (array.astype(np.int64) if self.whole_labels else array)]
        if self.labels_tokens and all((row == NO_LABEL).all() for row in truth):
            return {}
        predicted = [row for one, batch in zip(own, read, strict=True) for row in self.answers(one, batch, pooling)]
        groups = [batch.groups for batch in read if batch.groups is not None]
        ranked = np.concatenate(groups).tolist() if len(groups) == len(read) else None
        return self.compute_metrics(predicted, truth, ranked, names)

    def answers(self, outputs: Outputs, batch: BatchRead, pooling: Pooling | None) -> list[Any]:
        """One prediction per row of a batch, from outputs of `kept`."""
        return self.predictions(outputs, batch.attended, pooling)

    def judged(self, outputs: list[Outputs], batches: Sequence[BatchRead]) -> Array:
        """The predictions that count, over all batches."""
        parts = [np.asarray(self.predictions(one, batch.attended)) for one, batch in zip(outputs, batches, strict=True)]
        return np.concatenate(parts)

    def judged_truth(self, batches: Sequence[BatchRead]) -> Array:
        """The labels of what `judged` gives, of batches that all have labels."""
        return np.concatenate([np.asarray(batch.labels) for batch in batches])

    def equal(self, one: Array, other: Array) -> Array:
        """Which predictions are equal."""
        return np.asarray(one == other)

    # What a loaded bundle answers

    @abstractmethod
    def decode(
        self, outputs: Outputs, rows: Sequence[RowRead], labels: Sequence[str], pooling: Pooling | None
    ) -> list[Any]:
        """The result of each row of a call.

        Args:
            outputs: the graph's outputs.
            rows: the rows it read.
            labels: label names in the order of the logits; empty for tasks without.
            pooling: how to make an embedding; None for other tasks.
        """

    def join(self, found: Sequence[Any], rows: Sequence[RowRead]) -> list[Result]:
        """One answer per input, from the results of its rows.

        Args:
            found: the results of `decode`, row by row.
            rows: those rows, in the order of the inputs.
        """
        _ = rows
        return list(found)

    # Servers

    @abstractmethod
    def answer_tensors(self, labels: Sequence[str]) -> tuple[AnswerTensor, ...]:
        """The tensors of a server's answer; empty if tensors cannot hold it."""

    @abstractmethod
    def answer_schema(self) -> dict[str, Schema]:
        """The fields of a server's answer and their JSON schemas; empty where no server gives one."""

    @abstractmethod
    def as_json(self, result: Any) -> JsonObject:
        """A result of `decode` as JSON types."""

    def tensor_row(self, name: str, answer: JsonObject, labels: Sequence[str]) -> Any:
        """A row's part of a tensor of the answer: a value, or a list as long as the tensor is wide.

        Args:
            name: the tensor's name.
            answer: the result of `as_json`.
            labels: label names in the order of the logits.
        """
        _ = labels
        return answer[name]

    def triton_refusal(self, outputs: Collection[str]) -> str | None:
        """Why Triton cannot serve a graph with these outputs; None if it can."""
        _ = outputs
        return None
