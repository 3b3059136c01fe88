"""What is rare counts: a form that lost it is refused, however often it agrees, and few rows are judged as few."""

from __future__ import annotations

import numpy as np
import pytest

from finegates_export.common.tasks import NO_LABEL, TASKS
from finegates_export.common.tasks.metrics import points_lost
from finegates_export.errors import ChainError
from finegates_export.verification.agreed import Agreed, most_by_chance
from finegates_export.verification.chain import Chain
from finegates_export.verification.inputs import Batch
from finegates_export.verification.link import Tolerances
from finegates_export.verification.report import agreed_lines, recall_rows

ROWS, TOKENS, LABELS = 400, 10, 20
RARE = 4
LOOSE_METRIC = {"metric_points": 100.0}


def one_hot(chosen, labels=LABELS):
    return np.eye(labels, dtype=np.float32)[chosen]


def said_by(task):
    """What a gated model says, rare answers among it: logits by output, for the inputs of `batch_of`."""
    rare = np.arange(RARE) + 1
    if task in ("classification", "image-classification"):
        return {"logits": one_hot(np.concatenate([rare, np.zeros(ROWS - RARE, int)]))}
    if task == "multi-label":
        logits = np.full((ROWS, LABELS), -1.0, np.float32)
        logits[rare, rare] = 1.0
        return {"logits": logits}
    if task == "question-answering":
        start, end = np.zeros((2, ROWS), int)
        start[:RARE], end[:RARE] = 3, 5
        return {"start_logits": one_hot(start, TOKENS), "end_logits": one_hot(end, TOKENS)}
    spoken = np.zeros((ROWS, TOKENS), int)
    spoken[rare, 3] = rare
    return {"logits": one_hot(spoken)}


def batch_of(task, labels=None):
    inputs = {"input_ids": np.zeros((ROWS, TOKENS), np.int64), "attention_mask": np.ones((ROWS, TOKENS), np.int64)}
    if task == "image-classification":
        inputs = {"pixel_values": np.zeros((ROWS, 1, 2, 2), np.float32)}
    return Batch(inputs, labels, real=True)


def chain_over(task, reference, labels=None, metric="", **tolerances):
    names = tuple(f"l{number}" for number in range(LABELS)) if TASKS[task].named_labels else ()
    chain = Chain(task, [batch_of(task, labels)], Tolerances(**tolerances), metric=metric, labels=names)
    hidden = {"last_hidden_state": np.ones((ROWS, TOKENS, 2), np.float32)}
    chain.set_reference(lambda _inputs: {**reference, **hidden})
    return chain


def form_of(outputs):
    return lambda _inputs: outputs


COUNTED = ["classification", "image-classification", "multi-label", "token-classification", "question-answering"]


@pytest.mark.parametrize("task", COUNTED)
def test_a_form_that_always_says_the_frequent_answer_is_refused_however_often_that_agrees(task):
    said = said_by(task)
    usual = {name: np.broadcast_to(array[-1:], array.shape) for name, array in said.items()}
    share = chain_over(task, said, agreement=0.0, **LOOSE_METRIC).add("deaf", form_of(usual), exact=False).agreement
    assert share >= 0.99
    for agreement in (0.99, 0.5):
        with pytest.raises(ChainError, match=r"^deaf always says the most frequent answer, and never what the gated"):
            chain_over(task, said, agreement=agreement, **LOOSE_METRIC).add("deaf", form_of(usual), exact=False)
    assert chain_over(task, said, **LOOSE_METRIC).add("same", form_of(said), exact=False).agreement == 1.0


@pytest.mark.parametrize("task", COUNTED)
def test_a_form_that_lost_most_of_what_is_rare_is_refused(task):
    said = said_by(task)
    lossy = {name: array.copy() for name, array in said.items()}
    for array in lossy.values():
        array[:RARE] = array[-1]  # the rows from RARE on keep one rare answer at most
        array[ROWS // 2] = said[next(iter(said))][0] if task != "question-answering" else array[ROWS // 2]
    if task == "question-answering":
        for name, array in lossy.items():
            array[0] = said[name][0]
    with pytest.raises(ChainError, match=r"^lossy (differs in \d of the \d predictions other than|always says)"):
        chain_over(task, said, **LOOSE_METRIC).add("lossy", form_of(lossy), exact=False)


@pytest.mark.parametrize("task", ["classification", "token-classification", "multi-label"])
def test_a_form_that_never_says_one_of_many_labels_is_refused_by_its_name(task):
    """Three of the predictions, all of one label: a share of all predictions does not show it."""
    rng = np.random.default_rng(0)
    places = rng.integers(0, LABELS - 1, ROWS)
    places[:3] = LABELS - 1
    if task == "multi-label":
        said = {"logits": one_hot(places) * 2 - 1}
        lost = {"logits": said["logits"].copy()}
        lost["logits"][:3, LABELS - 1] = -1
    else:
        shown = one_hot(places) if task == "classification" else np.repeat(one_hot(places)[:, None], TOKENS, 1)
        said, lost = {"logits": shown}, {"logits": shown.copy()}
        lost["logits"][:3] = lost["logits"][-1]
    with pytest.raises(ChainError, match=r"^forgetful says 'l19' on 0 of the \d+ predictions where the gated model"):
        chain_over(task, said, **LOOSE_METRIC).add("forgetful", form_of(lost), exact=False)


@pytest.mark.parametrize(("metric", "passes"), [("accuracy", True), ("f1", False), ("matthews", False)])
def test_a_form_is_held_to_the_runs_own_metric(metric, passes):
    """One of four rows with the rare label is lost: a quarter of a point of accuracy, seven of macro F1."""
    truth = np.zeros(ROWS, int)
    truth[:RARE] = 1
    said, fewer = {"logits": one_hot(truth, 2)}, {"logits": one_hot(truth * (np.arange(ROWS) > 0), 2)}
    chain = chain_over("classification", said, truth.astype(np.float32), metric)
    if passes:
        link = chain.add("int8", form_of(fewer), exact=False)
        assert (link.metric_lost, link.agreed.rare, link.agreed.rare_equal) == (pytest.approx(1 / ROWS), RARE, RARE - 1)
        return
    with pytest.raises(ChainError, match=rf"^int8 loses \d+\.\d\d points of the metric {metric}, more than 1\.00"):
        chain.add("int8", form_of(fewer), exact=False)


def test_tokens_without_a_label_do_not_hide_what_is_rare():
    said = said_by("token-classification")
    truth = said["logits"].argmax(-1)
    truth[:, 5:] = NO_LABEL
    link = chain_over("token-classification", said, truth).add("same", form_of(said), exact=False)
    assert (link.agreed.compared, link.agreed.rare) == (ROWS * TOKENS, RARE)
    assert [one.label for one in link.agreed.recalls] == ["l0", *(f"l{number + 1}" for number in range(RARE))]


@pytest.mark.parametrize(
    ("rows", "share", "most"), [(47, 0.01, 2), (47, 0.0, 0), (8, 1.0, 8), (0, 0.01, 0), (500, 0.01, 9)]
)
def test_few_rows_may_differ_as_often_as_chance_explains(rows, share, most):
    assert most_by_chance(rows, share) == most


@pytest.mark.parametrize(("wrong", "passes"), [(2, True), (3, False)])
def test_an_agreement_on_47_rows_is_judged_as_what_47_rows_can_say(wrong, passes):
    answers = np.arange(47) % 2
    other = np.where(np.arange(47) < wrong, 1 - answers, answers)
    inputs = {"input_ids": np.zeros((47, 3), np.int64), "attention_mask": np.ones((47, 3), np.int64)}
    chain = Chain("classification", [Batch(inputs, real=True)], Tolerances(), labels=("no", "yes"))
    hidden = {"last_hidden_state": np.ones((47, 3, 2), np.float32)}
    chain.set_reference(lambda _inputs: {"logits": one_hot(answers, 2), **hidden})
    form = form_of({"logits": one_hot(other, 2)})
    if passes:
        agreed = chain.add("int8", form, exact=False).agreed
        assert "45 of 47 predictions are equal: at least 87.20% of all are" in next(iter(agreed_lines(agreed)))
        return
    with pytest.raises(ChainError, match="3 of 47 differ, and 2 may"):
        chain.add("int8", form, exact=False)


def test_a_bound_is_no_better_than_the_rows_allow():
    assert Agreed(47, 47).at_least == pytest.approx(0.05 ** (1 / 47))
    assert Agreed(5, 0).at_least == 0.0


def test_a_report_lists_the_labels_that_lost_most():
    said = {"logits": one_hot(np.arange(ROWS) % LABELS)}
    lossy = {"logits": said["logits"].copy()}
    lossy["logits"][19] = one_hot(0)
    truth = (np.arange(ROWS) % LABELS).astype(np.float32)
    link = chain_over("classification", said, truth, "accuracy").add("int8", form_of(lossy), exact=False)
    told = list(recall_rows(link.agreed.recalls))
    assert ("recall of l19", "20 of 20", "19 of 20") in told
    assert len(told) < LABELS


@pytest.mark.parametrize(
    ("metric", "before", "after", "lost"),
    [("accuracy", 0.9, 0.8, 0.1), ("perplexity", 10.0, 11.0, 0.1), ("negative_rmse", -2.0, -3.0, 0.5)],
)
def test_a_loss_is_in_points_of_the_metric_or_of_what_it_was(metric, before, after, lost):
    assert points_lost(metric, before, after, spread=2.0) == pytest.approx(lost)
