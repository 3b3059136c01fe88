"""Entities are what labels mark: found whole, scored whole, and given with their place in the text."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from finegates_export.common.tasks import LOGITS, NO_LABEL, TASKS
from finegates_export.common.tasks.answers import Word
from finegates_export.common.tasks.entities import entities_of, entity_f1, marks_entities, spans_of
from finegates_export.errors import InputError
from finegates_trainer.learning.metrics import chosen_metric, compute_metrics
from tests.tiny import tiny_tokenizer

NAMES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
TASK = "token-classification"


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O B-PER I-PER O B-LOC", [("PER", 1, 2), ("LOC", 4, 4)]),
        ("B-PER B-PER I-PER", [("PER", 0, 0), ("PER", 1, 2)]),
        ("I-PER I-PER O I-LOC", [("PER", 0, 1), ("LOC", 3, 3)]),
        ("B-PER I-LOC", [("PER", 0, 0), ("LOC", 1, 1)]),
        ("B-PER O I-PER", [("PER", 0, 0), ("PER", 2, 2)]),
        ("S-PER S-PER B-LOC I-LOC E-LOC I-LOC", [("PER", 0, 0), ("PER", 1, 1), ("LOC", 2, 4), ("LOC", 5, 5)]),
        ("U-PER B-LOC L-LOC L-LOC", [("PER", 0, 0), ("LOC", 1, 2), ("LOC", 3, 3)]),
        ("B_PER I_PER", [("PER", 0, 1)]),
        ("PER PER O PER LOC", [("PER", 0, 1), ("PER", 3, 3), ("LOC", 4, 4)]),
        ("O O", []),
        ("", []),
    ],
)
def test_labels_mark_entities_in_every_scheme(tags, spans):
    assert spans_of(tags.split()) == spans


@pytest.mark.parametrize(
    ("labels", "marks"), [(NAMES, True), (("O", "PER"), True), (("NOUN", "VERB"), False), (("O",), False)]
)
def test_parts_of_speech_mark_no_entities(labels, marks):
    assert marks_entities(labels) is marks


def test_an_entity_counts_as_a_whole_and_words_outside_do_not():
    truth = [[NO_LABEL, 1, 2, 0, 0, NO_LABEL, 3], [0, 0]]
    predicted = [np.array([9, 1, 0, 0, 0, 9, 3, 9]), np.array([0, 0])]
    found = compute_metrics(TASK, predicted, truth, labels=NAMES)
    assert found["accuracy"] == pytest.approx(6 / 7)
    assert found["entity_f1"] == pytest.approx(2 * 1 / (2 + 2))  # one person is half found
    assert entity_f1(truth, truth, NAMES) == 1.0
    assert entity_f1(truth, [[0] * 7, [0] * 2], NAMES) == 0.0
    assert entity_f1([[0]], [[0]], NAMES) == 0.0


def test_the_metric_of_labels_that_mark_entities_is_theirs():
    assert chosen_metric(TASK, None, NAMES) == "entity_f1"
    assert chosen_metric(TASK, "f1", NAMES) == "f1"
    assert chosen_metric(TASK, None, ("NOUN", "VERB")) == "f1"
    assert "entity_f1" not in compute_metrics(TASK, [[0]], [[0]], labels=("NOUN", "VERB"))
    with pytest.raises(
        InputError, match=r"^metric: entity_f1 counts entities, which the labels NOUN, VERB do not mark"
    ):
        chosen_metric(TASK, "entity_f1", ("NOUN", "VERB"))


def tagged(given, tags, names=NAMES):
    """What a model that says these labels, one for each token, answers about a text or a list of words."""
    words = {"is_split_into_words": True} if isinstance(given, list) else {}
    encoding = tiny_tokenizer()(given, **words)[0]
    firsts = [encoding.word_ids.index(number) for number in range(len(tags))]
    logits = np.zeros((1, len(encoding.ids), len(names)), np.float32)
    logits[0, firsts, [names.index(tag) for tag in tags]] = 3.0
    row = SimpleNamespace(owner=0, given=given, tokens=encoding, length=len(encoding.ids))
    return TASKS[TASK].decode({LOGITS: logits}, [row], names, None)[0]


def test_a_text_gives_its_entities_with_their_place_and_its_words():
    text = "the  film was awful and lovely"
    found = tagged(text, ["B-LOC", "I-LOC", "O", "B-PER", "O", "O"])
    assert [(one.text, one.label, one.start, one.end, one.first, one.last) for one in found.entities] == [
        ("the  film", "LOC", 0, 9, 0, 1), ("awful", "PER", 14, 19, 3, 3),
    ]  # fmt: skip
    assert all(text[one.start : one.end] == one.text for one in found.entities)
    assert found.entities[0].score == pytest.approx(np.exp(3) / (np.exp(3) + 4))
    assert [word.label for word in found][:2] == ["B-LOC", "I-LOC"]
    assert (len(found), found[0], found[:1]) == (6, found.words[0], found.words[:1])
    told = TASKS[TASK].as_json(found)
    assert (told["entities"][1]["label"], told["words"][0]["text"]) == ("PER", "the")


def test_a_list_of_words_gives_entities_by_their_numbers():
    found = tagged(["the", "film", "was"], ["O", "B-LOC", "I-LOC"])
    assert [(one.text, one.first, one.last, one.start, one.end) for one in found.entities] == [("film was", 1, 2, 0, 8)]


def test_parts_of_speech_give_words_alone():
    assert tagged("the film", ["DET", "NOUN"], ("DET", "NOUN")).entities == ()


def test_the_score_of_an_entity_is_the_mean_of_its_words():
    words = [Word("a", "B-PER", 0.5, 0, 1, 0), Word("b", "I-PER", 1.0, 2, 3, 1)]
    assert entities_of(words, "a b")[0].score == 0.75
