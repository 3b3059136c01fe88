"""Passages are ordered by a score: metrics by hand, both losses, what is refused, and one bundle from end to end."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from finegates_export import ExportOptions, export, load
from finegates_export.common.tasks import TASKS
from finegates_export.deploy.serving.model import Replica
from finegates_export.deploy.serving.options import ServeOptions
from finegates_export.deploy.serving.protocol import Asked, outputs_of, write_answer
from finegates_export.errors import InputError
from finegates_export.runtime import Prediction
from finegates_trainer import TrainOptions, train
from finegates_trainer.data import DataSource, encode_labels, read_data
from finegates_trainer.data.tokenizing import make_examples
from tests.tiny import QUERIES, tiny_base, tiny_tokenizer, write_pairs

TASK = TASKS["reranking"]
PAIRS = [("a film", "the play was great"), ("a film", "awful"), ("the story", "so so")]
OPTIONS: dict[str, Any] = {"task": "reranking", "max_steps": 4, "batch_size": 4, "max_length": 32, "lora_rank": 2}


def test_ranks_are_those_counted_by_hand() -> None:
    truth = [0, 1, 0, 1, 0, 0]
    predicted = [0.9, 0.5, 0.1, 0.8, 0.7, 0.2]
    # First query: the relevant passage is the second of three. Second: the first of three.
    found = TASK.compute_metrics(predicted, truth, [0, 0, 0, 1, 1, 1])
    assert found["mrr@10"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["ndcg@10"] == pytest.approx((1 / math.log2(3) + 1) / 2)
    assert found["pearson"] == pytest.approx(float(np.corrcoef(predicted, truth)[0, 1]))
    # As one query: ranks are 0.9 (0), 0.8 (1), 0.7 (0), 0.5 (1); the best order has both in front.
    whole = TASK.compute_metrics(predicted, truth)
    assert whole["mrr@10"] == pytest.approx(1 / 2)
    best = 1 + 1 / math.log2(3)
    assert whole["ndcg@10"] == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / best)


def test_grades_count_by_their_size_and_scores_below_zero_not_at_all() -> None:
    found = TASK.compute_metrics([3.0, 2.0, 1.0], [1.0, 3.0, -8.0])
    assert found["mrr@10"] == 1.0
    assert found["ndcg@10"] == pytest.approx((1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3)))


def test_queries_without_a_relevant_passage_are_left_out() -> None:
    both = TASK.compute_metrics([0.1, 0.9, 0.9, 0.1], [0, 1, 0, 0], [0, 0, 1, 1])
    assert both["mrr@10"] == 1.0
    assert TASK.compute_metrics([0.1, 0.9], [0, 0], [0, 0])["mrr@10"] == 0.0


def test_a_model_that_tells_nothing_apart_gains_nothing_by_the_order_of_the_rows() -> None:
    found = TASK.compute_metrics([1.0] * 4, [1, 0, 0, 0])
    assert found["mrr@10"] == 1 / 4


def test_the_eleventh_place_is_too_late() -> None:
    truth = [0] * 10 + [1]
    assert TASK.compute_metrics(list(range(11, 0, -1)), truth)["mrr@10"] == 0.0
    assert TASK.compute_metrics([*range(11, 1, -1), 2.5], truth)["mrr@10"] == pytest.approx(1 / 10)


def test_both_losses_are_those_of_torch() -> None:
    logits, labels = torch.tensor([[2.0], [-1.0], [0.5]]), torch.tensor([1.0, 0.0, 1.0])
    outputs = SimpleNamespace(logits=logits)
    for ranking, expected in (
        ("binary", torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels)),
        ("mse", torch.nn.functional.mse_loss(logits[:, 0], labels)),
    ):
        total, count = TASK.loss(outputs, labels, TASK.loss_settings(labels.tolist(), None, ranking))
        assert float(total / count) == pytest.approx(float(expected))


def test_a_teachers_scores_need_the_loss_for_them() -> None:
    with pytest.raises(
        InputError, match=r"binary learns labels from 0 to 1, the rows have -3\.5; use --ranking-loss mse or margin"
    ):
        TASK.loss_settings([0.0, -3.5])
    for ranking in ("mse", "margin"):
        assert TASK.loss_settings([0.0, -3.5], None, ranking).ranking == ranking


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"task": "regression", "ranking_loss": "mse"}, "ranking-loss: applies to reranking, not to regression"),
        ({"task": "reranking", "ranking_loss": "hinge"}, "ranking-loss: 'hinge' is not one of binary, mse, margin"),
        ({"task": "regression", "ranking_loss": "margin"}, "ranking-loss: applies to reranking, not to regression"),
        (
            {"task": "reranking", "ranking_loss": "margin", "batch_size": 1},
            "batch-size: ranking-loss margin compares the passages of a batch; give at least 2",
        ),
        ({"task": "reranking", "metric": "accuracy"}, "metric: 'accuracy' is not a metric of reranking, which has"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        TrainOptions(base="b", data="d", out=Path("o"), **options)


def test_rows_with_the_same_first_text_are_one_group(tmp_path: Path) -> None:
    path = str(write_pairs(tmp_path / "rows.jsonl"))
    rows = read_data(DataSource(path, eval_data=path, task="reranking")).train
    examples = make_examples(
        "reranking", tiny_tokenizer(), rows, encode_labels(rows, "reranking", (), "training"), 32, ("input_ids",)
    )
    assert examples.groups == [number for number in range(len(QUERIES)) for _ in range(3)]
    other = make_examples("regression", tiny_tokenizer(), rows, list(rows.labels), 32, ("input_ids",))
    assert other.groups is None


def test_a_row_without_a_passage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"query": "a", "label": 1}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"no column pair \(one of passage, document"):
        read_data(DataSource(str(path), eval_data=str(path), task="reranking"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reranking")
    base = tiny_base(folder / "base", layers=1)
    data = str(write_pairs(folder / "rows.jsonl"))
    run = train(TrainOptions(base=str(base), data=data, eval_data=data, out=folder / "run", **OPTIONS))
    assert set(run.info.metrics) == {"mrr@10", "ndcg@10", "pearson"}
    export(ExportOptions(ckpt=run.folder, out=folder / "bundle", threads=1))
    return folder / "bundle"


def test_a_bundle_scores_pairs_and_refuses_anything_else(bundle: Path) -> None:
    predictor = load(bundle, threads=1)
    found = predictor.predict(PAIRS)
    assert all(isinstance(one, Prediction) and one.label is None for one in found)
    np.testing.assert_allclose([one.score for one in found], predictor.logits(PAIRS)[:, 0], atol=1e-6)
    assert len({one.score for one in found}) > 1
    for wrong in ("a film", ("one", "two", "three")):
        with pytest.raises(InputError, match=r"input 0: reranking takes pairs \(query, passage\), got"):
            predictor.predict([wrong])


def test_config_says_that_the_score_is_the_logit(bundle: Path) -> None:
    config = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {"0": "score"}
    assert config["sentence_transformers"]["activation_fn"] == "torch.nn.modules.linear.Identity"
    assert 'predict([("a query", "a passage")])' in (bundle / "README.md").read_text(encoding="utf-8")


def test_a_server_scores_pairs_and_says_what_it_cannot_read(bundle: Path) -> None:
    options = ServeOptions(bundles=(bundle,), threads=1)
    replica = Replica(bundle, options)
    served, found = replica.model, replica.answers(PAIRS)
    scores = [one.score for one in load(bundle, threads=1).predict(PAIRS)]
    assert [answer["score"] for answer in found] == pytest.approx(scores)
    assert outputs_of(served) == {"score": ("FP32", [-1])}
    (tensor,) = write_answer(Asked(list(PAIRS), (), None), found, served)["outputs"]
    assert tensor["shape"] == [3]
    assert tensor["data"] == pytest.approx(scores)
    told = replica.answers([PAIRS[0], "alone"])
    assert told[0]["score"] == pytest.approx(scores[0])
    assert "reranking takes pairs" in told[1]["error"]
