"""Rows of every task become tokens and labels that stand where they should, and metrics count what they name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import RobertaTokenizer

from finegates_export.common.tasks import NO_LABEL, LossSettings
from finegates_export.common.tasks.pooling import Pooling
from finegates_export.errors import InputError
from finegates_export.sources.base import find_base
from finegates_trainer.data import DataSource, Rows, encode_labels, label_names, read_data
from finegates_trainer.data.examples import PairExamples, TextExamples
from finegates_trainer.data.tokenizing import make_examples
from finegates_trainer.learning.losses import TaskLoss
from finegates_trainer.learning.metrics import METRICS, compute_metrics, gain, is_better
from finegates_trainer.learning.predictions import predictions_of
from tests.tiny import tiny_base, tiny_tokenizer
from tests.trainer.conftest import COLOURS, write_rows

NAMES = ("input_ids", "attention_mask", "token_type_ids")


def read(folder: Path, task: str, rows: list[dict[str, Any]]) -> Rows:
    """Rows through a JSONL file."""
    path = str(write_rows(folder / "rows.jsonl", rows))
    return read_data(DataSource(path, eval_data=path, task=task)).train


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("bad, nice", ["bad", "nice"]),
        (["bad", "nice"], ["bad", "nice"]),
        ('["bad", "nice"]', ["bad", "nice"]),
        ("", []),
        ([], []),
        ("nice", ["nice"]),
        ('["[odd"]', ["[odd"]),
        ("['bad', 'nice']", ["bad", "nice"]),
        ("('bad', \"nice\",)", ["bad", "nice"]),
        ("{'nice', 'bad'}", ["nice", "bad"]),
        ("[]", []),
        ("(bad), nice", ["(bad)", "nice"]),
        ("it's, nice", ["it's", "nice"]),
    ],
)
def test_several_labels_are_read_in_every_form(tmp_path: Path, label: Any, expected: list[str]) -> None:
    rows = read(tmp_path, "multi-label", [{"text": "a", "labels": label}, {"text": "b", "labels": ["bad", "nice"]}])
    assert rows.labels[0] == expected
    names = label_names(Rows(["a"], None, [["nice", "bad"]]))
    encoded = encode_labels(Rows(["a"], None, [["nice"]]), "multi-label", names, "training")
    assert (names, encoded) == (("bad", "nice"), [[0.0, 1.0]])


@pytest.mark.parametrize(
    "label",
    [
        "[odd", "['bad' 'nice']", "['bad', 'nice'", "['bad', None]", "[bad, nice]", "{'bad': 1}", "{}", "{\"bad\": 1}",
        "array(['bad'], dtype=object)", "set()", "'bad', 'nice'", "[['bad']]", "[true]", "[" * 5000, True, [True],
        {"bad": 1}, [float("inf")], ["\ud800"],
    ],
)  # fmt: skip
def test_what_looks_like_a_list_and_is_none_makes_no_labels(tmp_path: Path, label: Any) -> None:
    with pytest.raises(InputError, match=r"rows\.jsonl line 1 has .* column 'labels'"):
        read(tmp_path, "multi-label", [{"text": "a", "labels": label}, {"text": "b", "labels": ["bad", "nice"]}])


def test_lists_come_from_parquet_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pd.DataFrame({"words": [["a", "film"]], "ner_tags": [[0, 1]]}).to_parquet(path)
    rows = read_data(DataSource(str(path), eval_data=str(path), task="token-classification")).train
    assert (rows.texts, rows.labels) == ([["a", "film"]], [[0, 1]])
    assert label_names(rows) == ("0", "1")


def test_a_words_label_goes_to_its_first_piece() -> None:
    rows = Rows([["the", "films", "was"], ["so"]], None, [["O", "B", "I"], ["B"]])
    labels = encode_labels(rows, "token-classification", ("B", "I", "O"), "training")
    examples = make_examples("token-classification", tiny_tokenizer(), rows, labels, 32, NAMES)
    pieces = tiny_tokenizer()(["the", "films", "was"], is_split_into_words=True).word_ids()
    assert pieces == [None, 0, 1, 1, 2, None], "the tokenizer no longer cuts this word"
    assert examples.labels[0] == [NO_LABEL, 2, 0, NO_LABEL, 1, NO_LABEL]
    _, collated = examples.collate([0, 1])
    assert collated.tolist() == [[NO_LABEL, 2, 0, NO_LABEL, 1, NO_LABEL], [NO_LABEL, 0, *[NO_LABEL] * 4]]
    short = make_examples("token-classification", tiny_tokenizer(), rows, labels, 4, NAMES)
    assert short.labels[0] == [NO_LABEL, 2, 0, NO_LABEL]


def test_a_tokenizer_that_splits_at_spaces_is_told_where_words_begin(tmp_path: Path) -> None:
    base = find_base(str(tiny_base(tmp_path / "base", "roberta", layers=1)))
    for file in base.folder.glob("tokenizer*"):
        file.unlink()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = {word: number for number, word in enumerate([*special, *sorted(ByteLevel.alphabet())])}
    RobertaTokenizer(vocab=vocabulary, merges=[]).save_pretrained(base.folder)
    rows = Rows([["a", "film"]], None, [[0, 1]])
    examples = make_examples(
        "token-classification", base.preprocessor("token-classification"), rows, rows.labels, 32, NAMES
    )
    assert examples.labels == [[NO_LABEL, 0, NO_LABEL, 1, *[NO_LABEL] * 5]], "a space goes in front of every word"
    plain = make_examples("classification", base.preprocessor("classification"), Rows(["a"], None, [0]), [0], 32, NAMES)
    assert plain.lengths == [3]


def test_an_answer_that_lost_its_beginning_is_no_answer() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.truncation_side = "left"
    rows = Rows(["so ?"] * 3, ["the play was rather told and a film was great"] * 3, [("film", 31)] * 3)
    labels = [("rather told", 13), ("told and", 20), ("film", 31)]
    cut = make_examples("question-answering", tokenizer, rows, labels, 11, NAMES)
    assert isinstance(cut, TextExamples)
    assert (len(cut), cut.dropped) == (2, 1), "the row begins at 'told': the first answer lost 'rather'"


@pytest.mark.parametrize("squad", [False, True])
def test_an_answer_becomes_its_first_and_last_token(tmp_path: Path, squad: bool) -> None:
    context = "the play was rather told and a film was great and lovely"
    plain = {"question": "so ?", "context": context}
    answers = [("rather told", 13), ("film", 31), ("great and lovely", 40)]
    rows = read(
        tmp_path,
        "question-answering",
        [
            {**plain, "answers": {"text": [text], "answer_start": [start]}}
            if squad
            else {**plain, "answer": text, "answer_start": start}
            for text, start in answers
        ],
    )
    labels = encode_labels(rows, "question-answering", (), "training")
    assert labels == answers
    whole = make_examples("question-answering", tiny_tokenizer(), rows, labels, 64, NAMES)
    assert isinstance(whole, TextExamples)
    assert whole.dropped == 0
    for (text, _), (first, last), row in zip(answers, whole.labels, whole.inputs, strict=True):
        assert tiny_tokenizer().decode(row["input_ids"][first : last + 1]) == text
        assert set(row["token_type_ids"][first : last + 1]) == {1}
    cut = make_examples("question-answering", tiny_tokenizer(), rows, labels, 14, NAMES)
    assert (len(cut), cut.dropped) == (2, 1)
    assert cut.labels == whole.labels[:2]


def test_a_missing_start_is_found_and_an_answer_at_the_edge_is_kept(tmp_path: Path) -> None:
    rows = read(tmp_path, "question-answering", [{"question": "so ?", "context": "a great film", "answer": "film"}])
    assert rows.labels == [("film", 8)]
    assert make_examples("question-answering", tiny_tokenizer(), rows, rows.labels, 8, NAMES).labels == [(6, 6)]
    with pytest.raises(Exception, match="all 1 answers lie beyond"):
        make_examples("question-answering", tiny_tokenizer(), rows, rows.labels, 7, NAMES)


@pytest.mark.parametrize("start", [None, float("nan"), "", " ", 8, 8.0, "8"])
@pytest.mark.parametrize("form", ["columns", "SQuAD", "SQuAD without lists"])
def test_an_answers_start_may_be_missing_in_some_rows(tmp_path: Path, form: str, start: Any) -> None:
    def row(given: Any) -> dict[str, Any]:
        answer = {"answer": "film", "answer_start": given}
        if form != "columns":
            text, first = (["film"], [given]) if form == "SQuAD" else ("film", given)
            answer = {"answers": {"text": text, "answer_start": first}}
        return {"question": "so ?", "context": "a great film", **answer}

    assert read(tmp_path, "question-answering", [row(8), row(start)]).labels == [("film", 8)] * 2


def test_questions_about_one_text_are_held_out_together(tmp_path: Path) -> None:
    rows = [
        {"question": f"so {word} ?", "context": f"text {i} was great", "answer": "great"}
        for i in range(100)
        for word in ("a", "the")
    ]
    path = str(write_rows(tmp_path / "rows.jsonl", rows))
    data = read_data(DataSource(path, task="question-answering"))
    assert len(data.evaluation) >= 2
    assert not set(data.train.pairs or ()) & set(data.evaluation.pairs or ())


def test_pairs_are_tokenized_one_by_one_and_follow_each_other() -> None:
    rows = Rows(["a film", "so"], ["the play was great", "a"], [1.0, 0.0])
    examples = make_examples("embedding", tiny_tokenizer(), rows, rows.labels, 32, NAMES)
    assert isinstance(examples, PairExamples)
    inputs, labels = examples.collate([0, 1])
    texts = [tiny_tokenizer().decode(ids, skip_special_tokens=True) for ids in inputs["input_ids"]]
    assert texts == ["a film", "the play was great", "so", "a"]
    assert labels.tolist() == [1.0, 0.0]
    assert examples.lengths == [6, 3]


@pytest.mark.parametrize("split", [True, False])
def test_images_are_read_from_folders_named_by_their_class(task_rows: dict[str, Path], split: bool) -> None:
    folder = task_rows["image-classification"]
    data = read_data(DataSource(str(folder if split else folder / "train"), task="image-classification"))
    assert set(data.train.labels) == set(COLOURS)
    assert len(data.train) + len(data.evaluation) == (96 if split else 72)
    assert all(path.parent.name == label for path, label in zip(data.train.texts, data.train.labels, strict=True))
    assert not set(data.train.texts) & set(data.evaluation.texts)


def test_images_that_are_held_out_are_not_read_beside_evaluation_data(
    task_rows: dict[str, Path], tmp_path: Path
) -> None:
    folder = task_rows["image-classification"]
    (tmp_path / "train").symlink_to(folder / "train")
    (tmp_path / "test").mkdir()
    source = DataSource(str(tmp_path), task="image-classification")
    with pytest.raises(InputError, match=r"test holds no images"):
        read_data(source)
    assert len(read_data(replace(source, eval_data=str(folder))).evaluation) == 24


def test_the_metric_of_tokens_leaves_out_what_has_no_label() -> None:
    truth = [[NO_LABEL, 0, 1, NO_LABEL], [NO_LABEL, 1]]
    predicted = [np.array([5, 0, 0, 7]), np.array([1, 1, 9, 9])]
    found = compute_metrics("token-classification", predicted, truth)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)


def test_answers_are_scored_whole_and_by_their_overlap() -> None:
    found = compute_metrics("question-answering", [(2, 3), (5, 8), (4, 4), (6, 5)], [(2, 3), (7, 8), (1, 2), (5, 6)])
    assert found["exact_match"] == 0.25
    assert found["f1"] == pytest.approx((1 + 2 * 2 / (2 + 4) + 0 + 0) / 4)


def test_several_labels_are_scored_by_decision() -> None:
    predicted, truth = [[1, 0, 0], [0, 1, 0]], [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    found = compute_metrics("multi-label", predicted, truth)
    assert (found["f1_micro"], found["accuracy"]) == (pytest.approx(0.8), pytest.approx(5 / 6))
    assert found["f1_macro"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("task", [task for task in METRICS if METRICS[task]])
def test_every_metric_is_best_for_the_truth_and_worse_for_something_else(task: str) -> None:
    truths: dict[str, tuple[list[Any], list[Any]]] = {
        "multi-label": ([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]),
        "token-classification": ([[0, 1], [1, NO_LABEL]], [[1, 1], [1, 0]]),
        "question-answering": ([(1, 2), (3, 3)], [(1, 2), (4, 5)]),
        "text-generation": ([[0, 1], [1, NO_LABEL]], [[1, 1], [1, 0]]),
        "reranking": ([0.0, 1.0, 0.0], [1.0, 0.0, 0.5]),
    }
    truth, other = truths.get(task, ([0, 1, 2, 2], [0, 2, 1, 1]))
    right, wrong = truth, other
    if task == "text-generation":
        right, wrong = (
            [np.array([[surprise, token] for token in row]) for row in rows]
            for surprise, rows in ((0.0, truth), (1.0, other))
        )
    best, worse = compute_metrics(task, right, truth), compute_metrics(task, wrong, truth)
    assert all(is_better(name, best[name], worse[name]) for name in METRICS[task])
    assert all(best[name] == pytest.approx(0.0 if name == "negative_rmse" else 1.0) for name in METRICS[task])
    assert all(gain(name, best[name], worse[name]) > 0 > gain(name, worse[name], best[name]) for name in METRICS[task])


@pytest.mark.parametrize("mode", ["mean", "cls"])
def test_a_pairs_prediction_is_the_cosine_of_its_embeddings(mode: str) -> None:
    hidden = np.random.default_rng(0).standard_normal((4, 3, 5)).astype(np.float32)
    mask = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]])
    vectors = hidden[:, 0] if mode == "cls" else np.stack([h[m > 0].mean(0) for h, m in zip(hidden, mask, strict=True)])
    expected = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
    found = predictions_of("embedding", {"last_hidden_state": hidden}, mask, Pooling(mode, normalize=False))
    np.testing.assert_allclose(found, expected, atol=1e-6)


class Outputs:
    """Named outputs, as models return them."""

    def __init__(self, **outputs: torch.Tensor) -> None:
        self.__dict__.update(outputs)


def test_losses_leave_out_unlabelled_tokens_and_scale_scores() -> None:
    logits = torch.tensor([[[2.0, 0.0], [0.0, 3.0], [9.0, -9.0]]])
    labels = torch.tensor([[0, 1, NO_LABEL]])
    expected = torch.nn.functional.cross_entropy(logits[0, :2], labels[0, :2])
    assert float(TaskLoss("token-classification")(Outputs(logits=logits), labels)) == pytest.approx(float(expected))
    nothing = TaskLoss("token-classification")(Outputs(logits=logits), torch.full((1, 3), NO_LABEL))
    assert float(nothing) == 0.0
    same = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    loss = TaskLoss("embedding", LossSettings(score_range=(1.0, 5.0)))
    assert float(loss(Outputs(sentence_embedding=same), torch.tensor([5.0, 1.0]))) == pytest.approx(0.0, abs=1e-6)
    assert float(loss(Outputs(sentence_embedding=same), torch.tensor([1.0, 5.0]))) == pytest.approx(1.0)
