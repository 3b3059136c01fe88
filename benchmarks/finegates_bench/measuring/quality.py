"""The metric of an exported graph, computed on the graph itself over the run's evaluation rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finegates_bench.measuring.exports import Exported
from finegates_bench.measuring.results import MetricSource
from finegates_export.errors import InputError, RunFolderError
from finegates_export.sources.run_folder import Run

if TYPE_CHECKING:
    from finegates_trainer.data import Rows
    from finegates_trainer.data.examples import Examples

BATCH_SIZE = 32
GENERATION_BATCH = 4
"""Rows per batch if every token has logits over a whole vocabulary."""
DIGEST_SHOWN = 12
SOURCE_FIELDS = ("data", "eval_data", "text_column", "pair_column", "label_column")


@dataclass(frozen=True)
class EvaluationRows:
    """The rows that metrics are computed on."""

    examples: Examples | None
    """None if the rows are gone: then only training's record is left."""
    words: str
    """Which rows, or why none, for the report."""


def evaluation_rows(
    run: Run, names: tuple[str, ...], eval_data: str | None, reader: Run | None = None
) -> EvaluationRows:
    """The rows that a model's metric is computed on, prepared as its run did it.

    Args:
        run: has the source of its rows.
        names: the graphs' inputs.
        eval_data: other rows than the run's own.
        reader: the run that prepares them, with its tokenizer or image processor; `run` itself by default.

    Raises:
        InputError: `eval_data` cannot be read or has labels that the run lacks.
        RunFolderError: the run folder's tokenizer or image processor cannot be read.
    """
    reader = reader or run
    if eval_data is not None:
        return EvaluationRows(*_prepared(reader, names, _other_rows(run, eval_data), eval_data))
    try:
        rows = _own_rows(run)
    except InputError as error:
        return EvaluationRows(None, f"as recorded in training: {error}")
    return EvaluationRows(*_prepared(reader, names, rows, "the run's evaluation rows"))


def metric_of(
    exported: Exported, rows: EvaluationRows, run: Run, threads: int, provider: str = "cpu"
) -> tuple[float | None, MetricSource | None]:
    """The run's metric for one exported graph, and its source; None for untrained models."""
    if not exported.candidate.trained:
        return None, None
    theirs = exported.candidate.run.info
    if rows.examples is not None:
        answering = replace(exported.candidate.run, info=replace(theirs, metric=run.info.metric))
        return graph_metric(exported.graph, rows.examples, answering, threads, provider), "graph"
    same_rows = theirs.data.get("eval_sha256") == run.info.data.get("eval_sha256")
    recorded = theirs.metrics.get(run.info.metric) if same_rows and exported.precision != "int8" else None
    return (recorded, "training") if recorded is not None else (None, None)


def _own_rows(run: Run) -> Rows:
    from finegates_trainer.data import DataSource, read_data

    record = run.info.data
    if not record.get("data"):
        raise InputError("the run does not say where its rows came from")
    rows = read_data(DataSource(**_source(run))).evaluation
    if rows.digest() != record.get("eval_sha256"):
        raise InputError(f"the evaluation rows of {record['data']} are not those of the training run (sha256 differs)")
    return rows


def _other_rows(run: Run, eval_data: str) -> Rows:
    """All rows of a file, or the evaluation rows of a folder, in the columns that the run used."""
    from finegates_trainer.data import DataSource, read_data

    return read_data(DataSource(**{**_source(run), "data": eval_data, "eval_data": eval_data})).evaluation


def _source(run: Run) -> dict[str, Any]:
    return {"task": run.info.task, **{name: run.info.data.get(name) for name in SOURCE_FIELDS}}


def _prepared(run: Run, names: tuple[str, ...], rows: Rows, what: str) -> tuple[Examples, str]:
    from finegates_trainer.data import encode_labels
    from finegates_trainer.data.tokenizing import make_examples

    info = run.info
    labels = encode_labels(rows, info.task, info.labels, "evaluation")
    examples = make_examples(info.task, _preprocessor(run), rows, labels, info.max_length, names)
    return examples, f"{what}: {len(examples):,} rows, sha256 {rows.digest()[:DIGEST_SHOWN]}"


def _preprocessor(run: Run) -> Any:
    """The tokenizer or image processor in the run folder."""
    from finegates_export.sources.base import BaseModel

    try:
        return BaseModel(str(run.folder), None, run.folder).preprocessor(run.info.task)
    except InputError as error:
        raise RunFolderError(f"{error}; copy the whole run folder") from error


def graph_metric(graph: Path, rows: Examples, run: Run, threads: int, provider: str = "cpu") -> float:
    """The run's metric of a graph on some rows, computed as training computes it."""
    from functools import partial

    from finegates_export.common.tasks import task_of
    from finegates_export.verification.cached_forms import cached_onnx_form
    from finegates_export.verification.forms import onnx_form
    from finegates_trainer.data.batches import evaluation_batches
    from finegates_trainer.learning.metrics import compute_metrics
    from finegates_trainer.learning.predictions import predictions_of

    info, generates = run.info, task_of(run.info.task).generates
    opened = cached_onnx_form if generates else partial(onnx_form, provider=provider)
    forward = opened(graph, threads=threads)
    predicted: list[Any] = [None] * len(rows)
    for indices in evaluation_batches(rows, GENERATION_BATCH if generates else BATCH_SIZE):
        tensors, labels = rows.collate(indices)
        inputs = {name: tensor.numpy() for name, tensor in tensors.items()}
        mask = inputs.get("attention_mask")
        answers = predictions_of(info.task, forward(inputs), mask, info.pooled_by(), labels)
        for i, prediction in zip(indices, answers, strict=True):
            predicted[i] = prediction
    return compute_metrics(info.task, predicted, rows.labels, rows.groups, info.labels)[info.metric]
