"""Rows of like length share a call and calls have the lengths that were asked for; no answer changes or moves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from finegates_export import load
from finegates_export.common.tasks import TASKS
from finegates_export.common.tasks.answers import TaggedText
from finegates_export.runtime import batching
from finegates_export.runtime.batching import Buckets, by_length, in_order
from tests.tiers import tiered
from tests.tiny import LORA, MAX_LENGTH, tiny_run
from tests.tiny_models import IMAGE

WORDS = ["the", "film", "was", "very", "great", "and", "a", "story", "told", "so"]
TEXTS = [" ".join(WORDS[i % 3 :] * (1 + i * 7 % 4)) if i % 5 else "so" for i in range(23)]
"""Short and long ones mixed, some longer than the model reads."""
QUESTIONS = [("was the film great", text) for text in TEXTS]
LISTS = [text.split() for text in TEXTS]


def padded_tokens(batches, lengths):
    return sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)


# batches


def cheapest(lengths, size, call):
    """The least that any cut of the sorted rows costs, by trying all of them."""
    ordered, costs = sorted(lengths, reverse=True), []
    for inner in itertools.product((False, True), repeat=len(lengths) - 1):
        edges = [0, *(place for place, cut in enumerate(inner, 1) if cut), len(lengths)]
        if max(np.diff(edges)) <= size:
            costs.append(sum((b - a) * ordered[a] + call for a, b in itertools.pairwise(edges)))
    return min(costs)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 40])
@pytest.mark.parametrize("way", [by_length, in_order])
def test_every_row_is_in_one_batch_and_there_are_as_few_as_can_be(way, count):
    lengths = np.random.default_rng(count).integers(1, 60, count).tolist()
    batches = list(way(lengths, 8))
    assert sorted(itertools.chain(*batches)) == list(range(count))
    assert len(batches) == -(-count // 8)
    assert all(0 < len(batch) <= 8 for batch in batches)


def test_no_other_cut_costs_less():
    generator = np.random.default_rng(0)
    more_calls = 0
    for _ in range(100):
        count, size, call = generator.integers(1, 10), int(generator.integers(1, 6)), int(generator.integers(0, 40))
        lengths = generator.integers(1, 60, count).tolist()
        batches = list(by_length(lengths, size, call))
        assert padded_tokens(batches, lengths) + call * len(batches) == cheapest(lengths, size, call)
        few = list(by_length(lengths, size))
        assert padded_tokens(few, lengths) + 10_000 * len(few) == cheapest(lengths, size, 10_000)
        more_calls += len(batches) > len(few)
    assert 20 < more_calls < 100


def test_sorted_batches_are_never_padded_to_more_tokens():
    generator = np.random.default_rng(0)
    fewer = 0
    for _ in range(500):
        count, size, most = generator.integers(1, 24), int(generator.integers(1, 9)), generator.integers(2, 50)
        lengths = generator.integers(1, most, count).tolist()
        asked, given = (padded_tokens(way(lengths, size), lengths) for way in (by_length, in_order))
        assert asked <= given
        fewer += asked < given
    assert fewer > 300


@pytest.mark.parametrize(("lengths", "tokens"), [([9, 9, 1], 19), ([1, 1, 9], 11), ([9, 1, 1], 11)])
def test_the_smaller_batch_stands_where_it_pads_least(lengths, tokens):
    """Always first, or always last, would be padded to more in one of these."""
    assert padded_tokens(by_length(lengths, 2), lengths) == tokens


# buckets


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, {1: 1, 7: 7, 30: 30}),
        (8, {1: 8, 8: 8, 9: 16, 25: 30, 30: 30}),
        (64, {1: 30, 30: 30}),
        ((16, 4), {1: 4, 4: 4, 5: 16, 16: 16, 17: 30}),
        ((30,), {1: 30}),
    ],
)
def test_a_row_is_padded_to_its_bucket_and_never_beyond_the_longest(choice, expected):
    buckets = Buckets(choice, 30)
    assert {length: buckets.padded(length) for length in expected} == expected


@pytest.mark.parametrize("choice", [0, -8, (), (8, 0)])
def test_impossible_buckets_are_refused(choice):
    with pytest.raises(ValueError, match="buckets: must be positive"):
        Buckets(choice, 30)


def test_a_bucket_that_no_row_can_fill_is_refused():
    with pytest.raises(ValueError, match="buckets: 31 is more than the 30 tokens that a row may have"):
        Buckets((8, 31), 30)


# the predictor


class Watched:
    """A session that notes the shape of every call."""

    def __init__(self, session):
        self.session, self.shapes = session, []

    def run(self, outputs, feed):
        self.shapes.append(next(iter(feed.values())).shape)
        return self.session.run(outputs, feed)


@pytest.fixture(scope="module")
def bundle_of(workshop):
    home = workshop.base(layers=1)

    def make(task):
        run = workshop.make(f"run-{task}", lambda out: tiny_run(out, home, "coupled", task=task, lora=LORA))
        return workshop.bundle(run)

    return make


def watched(bundle, **options):
    predictor = load(bundle, threads=1, **options)
    predictor._session = Watched(predictor._session)
    return predictor, predictor._session.shapes


def assert_equal(one, other):
    """Answers alike but for float32's last digits."""
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        if isinstance(a, np.ndarray):
            np.testing.assert_allclose(a, b, atol=1e-5)
        elif isinstance(a, TaggedText):
            assert [(word.text, word.label, word.start) for word in a] == [(w.text, w.label, w.start) for w in b]
        elif hasattr(a, "start"):
            assert (a.text, a.start, a.end) == (b.text, b.start, b.end)
            assert a.score == pytest.approx(b.score, abs=1e-5)
        else:
            assert list(a.scores) == list(b.scores)
            np.testing.assert_allclose([*a.scores.values()], [*b.scores.values()], atol=1e-5)
            assert getattr(a, "score", 0) == pytest.approx(getattr(b, "score", 0), abs=1e-5)


def inputs_of(task):
    return QUESTIONS if TASKS[task].needs_pair else TEXTS


@pytest.mark.parametrize(
    "task",
    tiered(
        [name for name, task in TASKS.items() if not task.images and not task.generates],
        fast=("classification",),
        default=("token-classification", "embedding"),
    ),
)
def test_answers_come_in_the_order_given_whatever_shares_a_call(bundle_of, task):
    inputs = inputs_of(task)
    alone = load(bundle_of(task), threads=1)
    expected = [alone.predict([one])[0] for one in inputs]
    assert_equal(alone.predict(inputs, batch_size=4), expected)
    assert_equal(alone.predict(inputs, batch_size=4, sort=False), expected)
    for buckets in (8, (6, 20)):
        predictor, shapes = watched(bundle_of(task), buckets=buckets)
        assert_equal(predictor.predict(inputs, batch_size=4), expected)
        wanted = {8, 16, 24, MAX_LENGTH} if buckets == 8 else {6, 20, MAX_LENGTH}
        assert {length for _, length in shapes} <= wanted
        assert all(rows <= 4 for rows, _ in shapes), "windows of one text may be in several calls"
        assert len({length for _, length in shapes}) > 1
    with pytest.raises(AssertionError):
        assert_equal(expected[::-1], expected)


@pytest.mark.slow
def test_lists_of_words_are_sorted_too(bundle_of):
    predictor, shapes = watched(bundle_of("token-classification"))
    found = predictor.predict(LISTS, batch_size=4)
    assert [[word.text for word in words] for words in found] == [
        words[: len(answer)] for words, answer in zip(LISTS, found, strict=True)
    ]
    lengths = [length for _, length in shapes]
    assert lengths == sorted(lengths, reverse=True)
    assert_equal(found, predictor.predict(LISTS, batch_size=4, sort=False))


def test_sorting_computes_fewer_tokens_in_as_many_calls(bundle_of):
    counts = []
    for sort in (True, False):
        predictor, shapes = watched(bundle_of("classification"))
        predictor.predict(TEXTS, batch_size=4, sort=sort)
        counts.append((len(shapes), sum(rows * length for rows, length in shapes)))
    assert counts[0][0] == counts[1][0] == 6
    assert counts[0][1] < 0.8 * counts[1][1]


def test_calls_are_cut_where_that_saves_more_padding_than_a_call_is_worth(bundle_of):
    counts = {}
    for call_tokens in (None, 8, 0):
        predictor, shapes = watched(bundle_of("classification"))
        found = predictor.predict(TEXTS, batch_size=8, call_tokens=call_tokens)
        counts[call_tokens] = (len(shapes), sum(rows * length for rows, length in shapes))
        assert_equal(found, predictor.predict(TEXTS, batch_size=8, sort=False))
    calls, tokens = zip(*counts.values(), strict=True)
    assert calls[0] < calls[1] < calls[2]
    assert tokens[0] > tokens[1] > tokens[2]
    with pytest.raises(ValueError, match="call_tokens: must not be negative, got -1"):
        predictor.predict(TEXTS, call_tokens=-1)


def test_more_inputs_than_are_sorted_together_keep_their_order(bundle_of, monkeypatch):
    predictor, shapes = watched(bundle_of("classification"))
    expected = predictor.predict(TEXTS, batch_size=4)
    monkeypatch.setattr("finegates_export.runtime.predictor.BATCHES_TOGETHER", 2)
    shapes.clear()
    assert_equal(predictor.predict(TEXTS, batch_size=4), expected)
    assert [rows for rows, _ in shapes].count(4) == 5
    assert batching.BATCHES_TOGETHER > 2


def test_logits_are_padded_to_buckets_too(bundle_of):
    predictor, shapes = watched(bundle_of("classification"), buckets=(10, 30))
    plain = load(bundle_of("classification"), threads=1)
    np.testing.assert_allclose(predictor.logits(["so"]), plain.logits(["so"]), atol=1e-5)
    assert shapes == [(1, 10)]


@pytest.mark.parametrize("given", [np.array([8, 16]), range(8, 17, 8), [np.int64(8), 16]])
def test_buckets_may_be_any_list_of_whole_numbers(bundle_of, given):
    predictor, shapes = watched(bundle_of("classification"), buckets=given)
    predictor.predict(["so", "the film was great and told a story"], batch_size=1)
    assert sorted(shapes) == [(1, 8), (1, 16)]
    for one in (np.int64(8), np.array(8)):
        assert watched(bundle_of("classification"), buckets=one)[0]._buckets == Buckets(8, MAX_LENGTH)


@pytest.mark.parametrize("given", ["8", 8.0, [8, 16.5], np.array([[8, 16]]), {8, 16}])
def test_other_buckets_are_refused(bundle_of, given):
    with pytest.raises(ValueError, match="buckets: must be a whole number or a list of whole numbers, got"):
        load(bundle_of("classification"), buckets=given)


@pytest.mark.slow
def test_images_have_no_lengths(workshop):
    bundle = workshop.bundle(workshop.run("coupled", variant="vit", task="image-classification", layers=1))
    images = list(np.random.default_rng(0).standard_normal((5, 3, IMAGE, IMAGE)).astype(np.float32))
    predictor, shapes = watched(bundle, buckets=(7, 9999))
    found = predictor.predict(images, batch_size=2)
    assert_equal(found, [predictor.predict([image])[0] for image in images])
    assert shapes[:3] == [(2, 3, IMAGE, IMAGE)] * 2 + [(1, 3, IMAGE, IMAGE)]


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_holds_at_least_one_row(bundle_of, size):
    with pytest.raises(ValueError, match=f"batch_size: must be positive, got {size}"):
        load(bundle_of("classification"), threads=1).predict(TEXTS, batch_size=size)


def test_the_texts_of_these_tests_are_short_and_long(bundle_of):
    predictor, shapes = watched(bundle_of("classification"))
    predictor.predict(TEXTS, batch_size=1)
    lengths = {length for _, length in shapes}
    assert min(lengths) < 5
    assert max(lengths) == MAX_LENGTH
