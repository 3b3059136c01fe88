"""Every task has all its parts, and each part works on tiny data; one that lacks a part is told by its name."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from finegates_export.common.tasks import END, HIDDEN, LOGITS, NO_LABEL, SENTENCE, START, TASKS, LossSettings, Task
from finegates_export.common.tasks.pooling import Pooling
from finegates_export.common.tasks.task import REQUIRED
from finegates_export.errors import InputError, UnsupportedError
from finegates_trainer.data.columns import READERS
from finegates_trainer.data.tokenizing import EXAMPLES
from finegates_trainer.learning.next_tokens import NextTokens
from tests.tiny import tiny_tokenizer

PAGE = Path(__file__).parent.parent.parent / "docs" / "adding-a-task.md"
NAMES = ("bad", "nice", "odd")
ROWS, TOKENS, DIMS = 4, 6, 8
TRAINED = [name for name, task in TASKS.items() if task.metrics]
TEXT = "the film was nice"
RAW: dict[str, list[Any]] = {
    "classification": ["bad", "nice", "odd", "nice"],
    "image-classification": ["bad", "nice", "odd", "nice"],
    "multi-label": [["bad"], [], ["nice", "odd"], ["odd"]],
    "regression": ["1", 2, 0.5, 3],
    "reranking": [1, 0, 1, 0],
    "token-classification": [["bad", "odd"], ["nice"], ["odd"], ["bad"]],
    "question-answering": [("film", 4), ("nice", 13), ("film", 4), ("nice", 13)],
    "feature-extraction": [1, 0, 1, 0],
    "embedding": [1, 0, 1, 0],
    "text-generation": [None, "a completion", None, None],
}
"""Labels as data holds them."""
TEXTS = {"token-classification": TEXT, "question-answering": ("was it", TEXT)}


def outputs_of(task: Task, seed: int = 0) -> dict[str, np.ndarray]:
    """What a graph of the task returns."""
    generator = np.random.default_rng(seed)
    shapes = {
        LOGITS: (ROWS, TOKENS, len(NAMES)) if task.labels_tokens else (ROWS, len(NAMES) if task.named_labels else 1),
        START: (ROWS, TOKENS), END: (ROWS, TOKENS), HIDDEN: (ROWS, TOKENS, DIMS),
    }  # fmt: skip
    return {name: generator.standard_normal(shapes[name]).astype(np.float32) for name in task.outputs}


def truth_of(task: Task) -> torch.Tensor:
    """Labels of a batch, encoded and collated."""
    if task.labels_tokens:
        return torch.tensor([[NO_LABEL, 0, 1, 2, 1, NO_LABEL]] * ROWS)
    if task.reads_windows:
        return torch.tensor([[1, 2], [3, 3], [0, 5], [2, 4]])
    encoded = task.encode_labels(RAW[task.name], NAMES if task.named_labels else (), "training")
    labels = torch.tensor(encoded, dtype=torch.int64 if task.whole_labels else torch.float32)
    return labels[: ROWS // 2] if task.pools else labels


def returned(task: Task, outputs: dict[str, np.ndarray]) -> Any:
    """The same as a model of the trainer returns it."""
    tensors = {name: torch.from_numpy(array).requires_grad_() for name, array in outputs.items()}
    if task.generates:
        return NextTokens(torch.randn(ROWS, TOKENS, DIMS).requires_grad_(), torch.nn.Linear(DIMS, len(NAMES)))
    return with_sentences(tensors)


def as_namespace(outputs: dict[str, np.ndarray]) -> SimpleNamespace:
    """Outputs as a model of transformers returns them."""
    return with_sentences({name: torch.from_numpy(array) for name, array in outputs.items()})


def with_sentences(tensors: dict[str, torch.Tensor]) -> SimpleNamespace:
    """The same, and hidden states pooled."""
    pooled = {SENTENCE: tensors[HIDDEN].mean(1)} if HIDDEN in tensors else {}
    return SimpleNamespace(**tensors, **pooled)


def rows_of(task: Task) -> list[Any]:
    """Rows of a call, as the runtime reads them."""
    given = TEXTS.get(task.name, TEXT)
    encoding = tiny_tokenizer().backend_tokenizer.encode(*(given if isinstance(given, tuple) else (given,)))
    return [SimpleNamespace(owner=i, given=given, tokens=encoding, length=len(encoding.ids)) for i in range(ROWS)]


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_every_part_and_one_that_lacks_it_is_told_by_name(name: str) -> None:
    task = TASKS[name]
    assert all(hasattr(task, part) for part in REQUIRED)
    abstract = sorted(Task.__abstractmethods__)
    for part in abstract:
        lacking = type("Lacking", (type(task),), {part: getattr(Task, part)})
        with pytest.raises(TypeError, match=rf"Lacking.*{part}"):
            lacking()
    for part in REQUIRED:
        lacking = type("Bare", (Task,), {one: getattr(task, one) for one in (*REQUIRED, *abstract) if one != part})
        with pytest.raises(TypeError, match=rf"^the task \S+ lacks {part}$"):
            lacking()


def unnamed_parts(page: str) -> set[str]:
    """The parts of a task that the page on adding one does not name."""
    parts = {name for name in (*vars(Task), *Task.__annotations__) if not name.startswith("_")}
    return parts - set(re.findall(r"`(\w+)`", page))


def test_the_page_on_adding_a_task_names_every_part() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert unnamed_parts(page) == set()
    assert unnamed_parts(page.replace("`ranks`", "")) == {"ranks"}


def without_entry(registry: dict[str, Any], wanted: set[str]) -> set[str]:
    """The tasks that a registry of the trainer does not know."""
    return wanted - set(registry)


def test_the_trainer_reads_every_task() -> None:
    texts = {name for name, task in TASKS.items() if not task.images}
    assert without_entry(READERS, texts) == set()
    assert without_entry(EXAMPLES, set(TASKS)) == set()
    assert without_entry({name: one for name, one in READERS.items() if name != "reranking"}, texts) == {"reranking"}


@pytest.mark.parametrize("name", TASKS)
def test_labels_are_encoded_and_what_is_no_label_is_refused(name: str) -> None:
    task = TASKS[name]
    encoded = task.encode_labels(RAW[name], NAMES if task.named_labels else (), "training")
    assert len(encoded) == ROWS
    if task.named_labels:
        strange = [["strange"] if isinstance(RAW[name][0], list) else "strange"]
        with pytest.raises(InputError, match=r"evaluation rows have labels that training lacks: \['strange'\]"):
            task.encode_labels(strange, NAMES, "evaluation")
    elif not (task.reads_windows or task.generates):
        with pytest.raises(InputError, match="row 1 has the score 'high'"):
            task.encode_labels(["high"], (), "evaluation")


@pytest.mark.parametrize("name", TRAINED)
def test_the_loss_is_finite_and_has_a_gradient(name: str) -> None:
    task = TASKS[name]
    outputs, labels = returned(task, outputs_of(task)), truth_of(task)
    total, count = task.loss(outputs, labels, task.loss_settings(labels.tolist()))
    assert count > 0
    assert torch.isfinite(total)
    total.backward()
    leaf = outputs.hidden if task.generates else getattr(outputs, task.outputs[0])
    assert leaf.grad is not None
    assert float(leaf.grad.abs().sum()) > 0


@pytest.mark.parametrize("name", [name for name in TASKS if name not in TRAINED])
def test_what_is_not_trained_has_no_loss(name: str) -> None:
    with pytest.raises(UnsupportedError, match=f"{name} has nothing to train on"):
        TASKS[name].loss(None, torch.zeros(1), LossSettings())


@pytest.mark.parametrize("name", TASKS)
def test_a_student_is_nearest_to_itself(name: str) -> None:
    task = TASKS[name]
    one, other = (as_namespace(outputs_of(task, seed)) for seed in (0, 1))

    def divergence(mine: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
        return (mine.softmax(-1) - theirs.softmax(-1)).square().sum(-1)

    mask = torch.ones(ROWS, TOKENS)
    same, counted = task.distances(one, one, mask, divergence)
    far, _ = task.distances(one, other, mask, divergence)
    assert float(far.mean()) > float(same.mean()) + 1e-4
    assert counted is None or counted.shape == far.shape


@pytest.mark.parametrize("name", TRAINED)
def test_metrics_take_what_predictions_give(name: str) -> None:
    task = TASKS[name]
    labels = truth_of(task)
    mask = np.ones((ROWS, TOKENS), np.int64)
    predicted = task.predictions(outputs_of(task), mask, Pooling("mean", normalize=True), labels)
    assert len(predicted) == len(labels)
    found = task.compute_metrics(predicted, labels.tolist())
    assert list(found) == list(task.metrics)
    assert all(np.isfinite(value) for value in found.values())


@pytest.mark.parametrize("name", TASKS)
def test_an_answer_is_decoded_and_has_the_tensors_it_is_served_with(name: str) -> None:
    task = TASKS[name]
    labels = NAMES if task.named_labels else ()
    pooling = Pooling("mean", normalize=True) if task.pools else None
    rows = rows_of(task)
    outputs = {key: array[:, : rows[0].length] for key, array in outputs_of(task).items()}
    if any(len(array.shape) > 1 and array.shape[1] == TOKENS for array in outputs.values()):
        outputs = {key: np.resize(array, (ROWS, rows[0].length, *array.shape[2:])) for key, array in outputs.items()}
    if task.generates:
        with pytest.raises(UnsupportedError, match="TextGenerator"):
            task.decode(outputs, rows, labels, pooling)
        return
    answers = task.join(task.decode(outputs, rows, labels, pooling), rows)
    assert len(answers) == ROWS
    told = [task.as_json(answer) for answer in answers]
    if task.answer_schema():
        assert all(set(one) == set(task.answer_schema()) for one in told)
    for tensor in task.answer_tensors(labels) if task.served or task.decides else ():
        values = [task.tensor_row(tensor.name, one, labels) for one in told]
        assert all(isinstance(value, list) == (tensor.width is not None) for value in values)
        if tensor.width is not None and tensor.width > 0:
            assert {len(value) for value in values} == {tensor.width}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_served_as_tensors_or_says_why_not(name: str) -> None:
    task = TASKS[name]
    assert bool(task.answer_schema()) == (bool(task.answer_tensors(NAMES)) or task.served)
    refusal = task.triton_refusal((task.answer_output,))
    assert bool(task.answer_tensors(NAMES)) == (refusal is None)
    assert refusal is None or name in refusal
    assert not task.decides or task.answer_tensors(NAMES)


def page_readers() -> set[str]:
    """The tasks whose answers the page's script reads."""
    script = (files("finegates_export.deploy.web") / "page_files" / "answers.js").read_text(encoding="utf-8")
    readers = script[script.index("const READERS") : script.index("export function")]
    return set(re.findall(r'^  "?([a-z-]+)"?\(', readers, re.MULTILINE))


def test_the_page_reads_the_answers_of_the_tasks_that_have_one() -> None:
    assert {name for name, task in TASKS.items() if task.has_page} == page_readers()


@pytest.mark.parametrize("name", TASKS)
def test_words_about_a_task_can_be_said(name: str) -> None:
    task = TASKS[name]
    assert "%" in task.agreement_told.format(0.5)
    assert task.agreement_brief.format(0.5)
    assert task.gives
    assert task.takes
