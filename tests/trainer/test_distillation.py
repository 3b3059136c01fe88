"""A teacher's outputs and hidden states: what the losses measure, what they change, and which teachers are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finegates_export.errors import InputError
from finegates_trainer import train
from finegates_trainer.learning.distillation import DistillationWeights, Teacher
from finegates_trainer.running.reporter import Silent
from finegates_trainer.running.setup import prepare
from tests.tiny import labelled_texts, tiny_base, tiny_rows
from tests.trainer.conftest import write_rows
from tests.trainer.test_train import options

TASKS = ["multi-label", "token-classification", "question-answering", "embedding"]
TEXTS = labelled_texts(48)


@pytest.fixture(scope="module")
def teacher(base: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("teacher") / "run"
    train(options(base, rows, out, layout="none", learning_rate=0.01))
    return out


def loss_of(training: Any, teacher: Teacher) -> float:
    inputs, labels = training.train_rows.collate(range(6))
    training.gated.eval()
    return float(teacher.loss(inputs, labels, training.gated(**inputs)).detach())


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0)], ids=["logits", "hidden"])
def test_a_model_is_no_distance_from_itself_and_some_from_another(
    base: Path, rows: Path, tmp_path: Path, teacher: Path, weights: tuple[float, float]
) -> None:
    training = prepare(options(base, rows, tmp_path / "run", teacher=teacher, layout="none"))
    run = train(options(base, rows, tmp_path / "again", layout="none", max_steps=1, learning_rate=1e-9))
    settings = DistillationWeights(*weights, 2.0)
    assert loss_of(training, Teacher(run, training.gated, settings)) < 1e-6
    from finegates_export.sources.run_folder import read_run

    far = loss_of(training, Teacher(read_run(teacher), training.gated, settings))
    assert far > 1e-4
    doubled = DistillationWeights(2 * weights[0], 2 * weights[1], 2.0)
    assert loss_of(training, Teacher(read_run(teacher), training.gated, doubled)) == pytest.approx(2 * far, rel=1e-5)


@pytest.mark.slow
def test_a_teacher_changes_what_is_learned_and_stays_as_it_was(
    base: Path, rows: Path, tmp_path: Path, teacher: Path
) -> None:
    before = load_file(teacher / "head.safetensors")
    alone = train(options(base, rows, tmp_path / "alone"))
    taught = train(options(base, rows, tmp_path / "taught", teacher=teacher, distill_hidden=0.5))
    assert not torch.equal(alone.head["classifier.weight"], taught.head["classifier.weight"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in load_file(teacher / "head.safetensors").items())
    assert taught.info.options["teacher"] == str(teacher)


class Listener(Silent):
    """Keeps what a run said of itself before the first step."""

    def started(self, facts: dict[str, str]) -> None:
        self.facts = facts


@pytest.mark.parametrize("hidden", [0.0, 0.5])
def test_a_run_says_who_teaches_it_and_when_a_recipe_waits_for_a_teacher(
    base: Path, rows: Path, tmp_path: Path, teacher: Path, hidden: float
) -> None:
    taught, alone = Listener(), Listener()
    train(options(base, rows, tmp_path / "taught", teacher=teacher, distill_hidden=hidden, max_steps=2), taught)
    assert taught.facts["teacher"] == f"{teacher} (logits 1, hidden states {hidden:g})"
    train(options(base, rows, tmp_path / "alone", distill_hidden=hidden, max_steps=2), alone)
    assert ("without --teacher" in alone.facts.get("teacher", "")) == bool(hidden)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_learns_from_a_teacher(base: Path, task_rows: dict[str, Path], tmp_path: Path, task: str) -> None:
    settings: dict[str, Any] = {"task": task, "max_steps": 3}
    if task == "embedding":
        settings["pooling"] = "mean"
    rows = task_rows[task]
    train(options(base, rows, tmp_path / "teacher", layout="none", learning_rate=0.01, **settings))
    taught = options(base, rows, tmp_path / "run", teacher=tmp_path / "teacher", distill_hidden=1.0, **settings)
    training = prepare(taught)
    assert training.teacher is not None
    assert loss_of(training, training.teacher) > 1e-6
    train(taught)


def test_a_teacher_for_something_else_is_refused(base: Path, rows: Path, tmp_path: Path, teacher: Path) -> None:
    fewer = tiny_rows(tmp_path / "two", labels=2)
    with pytest.raises(InputError, match=r"has the labels .* train it on the same rows"):
        prepare(options(base, fewer, tmp_path / "run", teacher=teacher))
    with pytest.raises(InputError, match="was trained for classification, not multi-label"):
        prepare(options(base, rows, tmp_path / "run", teacher=teacher, task="multi-label"))
    deeper = tiny_base(tmp_path / "deeper", layers=2)
    prepare(options(deeper, rows, tmp_path / "run", teacher=teacher))
    with pytest.raises(InputError, match=r"distill-hidden: teacher .* has 1 layers"):
        prepare(options(deeper, rows, tmp_path / "run", teacher=teacher, distill_hidden=1.0))


def test_a_teacher_whose_embeddings_have_another_width_is_refused(
    base: Path, task_rows: dict[str, Path], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"task": "embedding", "pooling": "mean", "max_steps": 1}
    wider = tiny_base(tmp_path / "wider", layers=1, hidden=64)
    rows = task_rows["embedding"]
    train(options(wider, rows, tmp_path / "teacher", layout="none", **settings))
    with pytest.raises(InputError, match="makes embeddings of 64 dims, the student of 32; take"):
        train(options(base, rows, tmp_path / "run", teacher=tmp_path / "teacher", **settings))


@pytest.fixture(scope="module")
def bases(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"bert": base, "distilbert": tiny_base(tmp_path_factory.mktemp("distilbert") / "base", "distilbert")}


@pytest.mark.parametrize(
    ("teaches", "learns", "paired", "refused"),
    [
        ("bert", "distilbert", True, True),
        ("bert", "distilbert", False, False),
        ("distilbert", "bert", True, False),
        ("bert", "bert", True, False),
    ],
)
def test_a_teacher_that_tells_two_texts_apart_needs_a_student_that_does(
    bases: dict[str, Path], tmp_path: Path, teaches: str, learns: str, paired: bool, refused: bool
) -> None:
    more = {"sentence2": "the film was told"} if paired else {}
    rows = write_rows(tmp_path / "rows.jsonl", [{"sentence": text, **more, "label": kind} for text, kind in TEXTS])
    train(options(bases[teaches], rows, tmp_path / "teacher", layout="none", max_steps=1))
    taught = options(bases[learns], rows, tmp_path / "run", teacher=tmp_path / "teacher", max_steps=1)
    if not refused:
        assert train(taught).info.steps == 1
        return
    with pytest.raises(InputError, match=r"apart by token_type_ids, which .* not read \(input_ids, attention_mask\)"):
        train(taught)


@pytest.mark.slow
def test_all_weights_train_by_option_and_the_run_is_exported_from_them(base: Path, rows: Path, tmp_path: Path) -> None:
    from finegates_export import ExportOptions, export, load

    whole = {"layout": "none", "lora_rank": 0, "train_base": True, "learning_rate": 1e-3}
    run = train(options(base, rows, tmp_path / "run", **whole))
    name = "bert.encoder.layer.0.attention.self.query.weight"
    kept = load_file(tmp_path / "run" / "base" / base.name / "model.safetensors")
    assert not torch.equal(kept[name], load_file(base / "model.safetensors")[name])
    assert run.info.trained_parameters["base"] > 0
    (tmp_path / "run").rename(tmp_path / "moved")
    export(ExportOptions(ckpt=tmp_path / "moved", out=tmp_path / "bundle", threads=1))
    assert load(tmp_path / "bundle").predict(["a great film"])[0].label in run.info.labels
