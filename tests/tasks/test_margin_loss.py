"""Margins are learned: the loss by hand, queries that come together in batches and processes, and whole runs."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from finegates_export.common.tasks import TASKS
from finegates_export.errors import InputError
from finegates_trainer import TrainOptions, train
from finegates_trainer.data.batches import EpochBatches
from finegates_trainer.data.examples import collate_groups
from finegates_trainer.learning.losses import TaskLoss
from finegates_trainer.processes import Processes
from finegates_trainer.running.reporter import Silent, StepReport
from tests.tiny import tiny_base, write_pairs

TASK = TASKS["reranking"]
PASSAGES, QUERIES = 4, 12
OPTIONS: dict[str, Any] = {
    "task": "reranking", "ranking_loss": "margin", "max_steps": 12, "batch_size": 6, "max_length": 32, "lora_rank": 2,
    "save_steps": 5, "layout": "none",
}  # fmt: skip


class Killed(Exception):  # noqa: N818  # stands for a signal, not for an error
    """Stops a run in the middle."""


class KillAt(Silent):
    def stepped(self, report: StepReport) -> None:
        if report.step == 7:
            raise Killed


def margin(scores: Tensor, labels: list[tuple[float, int]]) -> tuple[float, float, list[float]]:
    """Loss, number of comparisons, and the loss's gradient by score."""
    scores = scores.clone().requires_grad_()
    settings = TASK.loss_settings([label for label, _ in labels], None, "margin")
    total, count = TASK.loss(SimpleNamespace(logits=scores[:, None]), torch.tensor(labels), settings)
    total.backward()
    assert scores.grad is not None
    return float(total.detach()), float(count), scores.grad.tolist()


def test_the_margin_loss_is_the_one_counted_by_hand() -> None:
    scores = torch.tensor([2.0, 1.0, -1.0, 0.5, 3.0])
    labels = [(5.0, 0), (3.0, 0), (2.0, 0), (-1.0, 1), (1.0, 1)]
    # First query, student's margins 1, 3, 2 against 2, 3, 1; second: -2.5 against -2.
    total, count, gradient = margin(scores, labels)
    assert total == pytest.approx(1 + 0 + 1 + 0.25)
    assert count == 4
    assert any(gradient)
    # The offset of a query's scores is free, and the order of the rows is no matter.
    assert margin(scores + torch.tensor([7.0, 7.0, 7.0, -2.0, -2.0]), labels)[0] == pytest.approx(total)
    order = [3, 0, 4, 2, 1]
    assert margin(scores[order], [labels[i] for i in order])[:2] == pytest.approx((total, count))


def test_passages_of_two_queries_are_not_compared() -> None:
    scores = torch.tensor([2.0, 1.0, 0.0])
    apart = [(5.0, 0), (1.0, 1), (-4.0, 2)]
    assert margin(scores, apart) == (0.0, 0.0, [0.0] * 3)
    assert margin(scores, [(label, 0) for label, _ in apart])[0] > 0
    assert margin(scores, [(5.0, 0), (1.0, 1), (-4.0, 1)])[2][0] == 0.0
    loss = TaskLoss("reranking", TASK.loss_settings([0.0], None, "margin"))
    assert float(loss(SimpleNamespace(logits=scores[:, None]), torch.tensor(apart))) == 0.0


def test_two_processes_learn_the_margins_that_one_learns() -> None:
    scores, labels = torch.tensor([2.0, 1.0, -1.0, 0.5, 3.0]), torch.tensor([[5.0, 0], [3, 0], [2, 0], [-1, 1], [1, 1]])
    settings = TASK.loss_settings([], None, "margin")
    whole = float(TaskLoss("reranking", settings)(SimpleNamespace(logits=scores[:, None]), labels))
    mean = (3 + 1) / 2
    parts = [
        float(
            TaskLoss("reranking", settings, lambda _count: torch.tensor(mean))(
                SimpleNamespace(logits=scores[part, None]), labels[part]
            )
        )
        for part in (slice(0, 3), slice(3, 5))
    ]
    assert sum(parts) / 2 == pytest.approx(whole)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_querys_passages_come_in_one_batch_and_one_process(number: int) -> None:
    count = PASSAGES * QUERIES
    groups, lengths = [row % QUERIES for row in range(count)], [1 + row * 5 % 13 for row in range(count)]
    parts = [list(EpochBatches(lengths, 2 * PASSAGES, 3, Processes(number, i), groups)) for i in range(number)]
    for part in (part for batch in zip(*parts, strict=True) for part in batch):
        assert all(sum(groups[row] == group for row in part) == PASSAGES for group in {groups[row] for row in part})
    # A batch is two queries: one process reads both, two share them, and of three all read both.
    seen = sorted(row for one in parts for part in one for row in part)
    assert seen == sorted([*range(count)] * (1 if number < 3 else number))
    loose = [len({groups[row] for row in batch}) for batch in EpochBatches(lengths, 2 * PASSAGES, 3)]
    assert max(loose) > 2, "rows by themselves would pass"


def test_a_query_with_more_passages_than_a_batch_is_divided() -> None:
    batches = list(EpochBatches([1] * 10, 4, 3, groups=[0] * 7 + [1] * 3))
    assert sorted(map(len, batches)) == [2, 4, 4]
    assert sorted(row for batch in batches for row in batch) == list(range(10))


def test_groups_are_numbered_within_the_batch() -> None:
    examples = SimpleNamespace(groups=[2**24, 2**24 + 1, 2**24], collate=lambda rows: ({}, torch.tensor(rows) / 2))
    _, labels = collate_groups(examples, [0, 1, 2])  # type: ignore[arg-type]  # stands for `Examples`
    assert labels.tolist() == [[0.0, 0.0], [0.5, 1.0], [1.0, 0.0]]
    with pytest.raises(ValueError, match="rows without groups"):
        collate_groups(SimpleNamespace(groups=None), [0])  # type: ignore[arg-type]  # stands for `Examples`


def scored_pairs(path: Path) -> Path:
    """Write queries with three passages each, and scores outside [0, 1], as a teacher gives them."""
    rows = [json.loads(line) for line in write_pairs(path).read_text(encoding="utf-8").splitlines()]
    lines = [json.dumps({**row, "label": 4.0 * row["label"] - 8.0}) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("margins")
    data = str(scored_pairs(folder / "rows.jsonl"))
    return {**OPTIONS, "base": str(tiny_base(folder / "base", layers=1)), "data": data, "eval_data": data}


def test_margins_are_learned_and_a_resumed_run_is_the_uninterrupted_one(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    whole = train(TrainOptions(out=tmp_path / "whole", **settings))
    assert set(whole.info.metrics) == {"mrr@10", "ndcg@10", "pearson"}
    with pytest.raises(Killed):
        train(TrainOptions(out=tmp_path / "cut", **settings), KillAt())
    resumed = train(TrainOptions(out=tmp_path / "cut", resume=True, **settings))
    other = train(TrainOptions(out=tmp_path / "mse", **{**settings, "ranking_loss": "mse"}))
    one, same, different = (load_file(run.folder / "head.safetensors") for run in (whole, resumed, other))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], different[name]) for name in one)


def test_margins_need_a_query_with_two_passages(settings: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"query": f"film {number}", "passage": "great", "label": number} for number in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    options = TrainOptions(**{**settings, "data": str(path)}, out=tmp_path / "run")
    told = r"rows\.jsonl: no query has two passages among the 4 training rows.*or use --ranking-loss mse"
    with pytest.raises(InputError, match=told):
        train(options)
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]
