"""The cost table: what is measured, what is kept, and which of two ways a decision takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from finegates_export.costs.blocks.linear_shape import LinearShape
from finegates_export.costs.cost_file import cost_path, make_stamp
from finegates_export.costs.cost_table import CostTable
from finegates_export.costs.timing.block_times import Question
from finegates_export.costs.timing.statistics import median_interval
from finegates_export.errors import InputError

MS = 1_000_000
ZEROS = LinearShape(64, 20, 30)
GATHERED = LinearShape(64, 15, 30, read_from=20)
SPREAD = LinearShape(64, 30, 15, write_to=20)


class Rounds:
    """Answers questions from a list of milliseconds per shape, and counts them."""

    def __init__(self, milliseconds):
        self.milliseconds = milliseconds
        self.questions: list[Question] = []

    def __call__(self, question):
        self.questions.append(question)
        return [[value * MS for value in self.milliseconds[shape]] for shape in question.shapes]


def steady() -> Rounds:
    return Rounds({ZEROS: [10.0] * 20, GATHERED: [8.0] * 20, SPREAD: [6.0] * 20})


def nobody(question):
    raise AssertionError(f"{question} was to be in the file")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FINEGATES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def table(measurer, threads=2) -> CostTable:
    return CostTable(threads, measurer=measurer)


# decisions


def test_the_second_way_is_chosen_where_its_whole_interval_is_below_one() -> None:
    decision = table(steady()).cheaper([ZEROS], [GATHERED])
    assert decision.chosen == "b"
    assert (decision.ratio, decision.low, decision.high, decision.rounds) == (0.8, 0.8, 0.8, 20)
    assert decision.why == "gathered: 0.80 of the time (0.80 to 0.80) at 64 tokens"


def test_the_first_way_stays_where_the_second_is_slower() -> None:
    decision = table(Rounds({ZEROS: [10.0] * 20, GATHERED: [12.0] * 20})).cheaper([ZEROS], [GATHERED])
    assert decision.chosen == "a"
    assert decision.why == "zeros stay: gathered takes 1.20 of the time (1.20 to 1.20) at 64 tokens"


def test_a_median_below_one_is_not_enough_where_the_interval_reaches_one() -> None:
    rounds = Rounds({ZEROS: [10.0] * 20, GATHERED: [9.0, 11.0] * 9 + [9.0] * 2})
    decision = table(rounds).cheaper([ZEROS], [GATHERED])
    assert decision.ratio < 1.0 < decision.high
    assert decision.chosen == "a"


def test_what_slows_both_ways_in_a_round_does_not_widen_the_interval() -> None:
    slowed = [1.0, 1.0, 5.0, 9.0, 1.0, 2.0] * 4
    rounds = Rounds({ZEROS: [10.0 * by for by in slowed], GATHERED: [9.0 * by for by in slowed]})
    decision = table(rounds).cheaper([ZEROS], [GATHERED])
    assert decision.chosen == "b"
    assert decision.high - decision.low < 1e-9, "rounds are pairs"
    alone = median_interval(rounds.milliseconds[GATHERED])
    assert alone.high - alone.low > 1.0


def test_a_linear_that_is_there_three_times_counts_three_times_and_is_timed_once() -> None:
    measurer = steady()
    decision = table(measurer).cheaper([ZEROS], [GATHERED, GATHERED, SPREAD])
    assert decision.ratio == pytest.approx((8 + 8 + 6) / 10)
    assert decision.chosen == "a"
    assert measurer.questions[0].shapes == (ZEROS, GATHERED, SPREAD)
    assert (measurer.questions[0].first, measurer.questions[0].second) == ((0,), (1, 1, 2))


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ([], [ZEROS], r"0 with 1 linears at \[64\] tokens; give each way at least one"),
        ([ZEROS], [LinearShape(32, 20, 30)], r"at \[32, 64\] tokens"),
    ],
)
def test_ways_that_cannot_be_compared_are_refused(a, b, told) -> None:
    with pytest.raises(InputError, match=told):
        table(nobody).cheaper(a, b)


# the file


def test_what_was_measured_once_is_not_measured_again() -> None:
    measurer = steady()
    first = table(measurer)
    costs, decision = first.milliseconds([ZEROS, GATHERED, ZEROS]), first.cheaper([ZEROS], [GATHERED])
    assert costs[ZEROS].median == 10.0
    assert [len(question.shapes) for question in measurer.questions] == [2, 2]
    later = table(nobody)
    assert later.milliseconds([GATHERED, ZEROS]) == {GATHERED: costs[GATHERED], ZEROS: costs[ZEROS]}
    assert later.cheaper([ZEROS], [GATHERED]) == decision


def test_only_what_is_missing_is_measured() -> None:
    table(steady()).milliseconds([ZEROS])
    measurer = steady()
    assert set(table(measurer).milliseconds([ZEROS, SPREAD])) == {ZEROS, SPREAD}
    assert [question.shapes for question in measurer.questions] == [(SPREAD,)]


def test_what_does_not_fit_into_memory_together_is_measured_in_parts(monkeypatch) -> None:
    measurer = steady()
    monkeypatch.setattr("finegates_export.costs.cost_table.MOST_NUMBERS", ZEROS.numbers + GATHERED.numbers)
    costs = table(measurer).milliseconds([ZEROS, GATHERED, SPREAD])
    assert [question.shapes for question in measurer.questions] == [(ZEROS, GATHERED), (SPREAD,)]
    assert [costs[shape].median for shape in (ZEROS, GATHERED, SPREAD)] == [10.0, 8.0, 6.0]
    monkeypatch.setattr("finegates_export.costs.cost_table.MOST_NUMBERS", 1)
    alone = steady()
    table(alone, threads=1).milliseconds([ZEROS, SPREAD])
    assert [question.shapes for question in alone.questions] == [(ZEROS,), (SPREAD,)]


def test_another_thread_count_has_another_file() -> None:
    one, two = table(steady(), threads=1), table(steady(), threads=2)
    one.milliseconds([ZEROS])
    assert one.path != two.path
    assert one.path.is_file()
    assert not two.path.exists()


@pytest.mark.parametrize("key", ["onnxruntime", "processor", "schema", "target"])
def test_the_file_is_that_of_the_whole_stamp(key) -> None:
    stamp = make_stamp("ort-cpu", 2)
    assert cost_path({**stamp, key: "other"}) != cost_path(stamp)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda _: "[]",
        lambda _: "\x00\x01",
        lambda text: text.replace('"processor": "', '"processor": "another '),
        lambda text: text.replace('"median": 10000000.0', '"median": NaN'),
        lambda text: text.replace('"inputs": 20', '"inputs": -20'),
        lambda text: text.replace('"tokens"', '"words"'),
    ],
)
def test_a_damaged_file_is_measured_anew_and_is_whole_afterwards(damage) -> None:
    whole = table(steady())
    whole.milliseconds([ZEROS])
    text = whole.path.read_text()
    assert damage(text) != text
    whole.path.write_text(damage(text))
    measurer = steady()
    table(measurer).milliseconds([ZEROS])
    assert len(measurer.questions) == 1
    assert whole.path.read_text() == text
    assert [file.name for file in whole.path.parent.iterdir()] == [whole.path.name]


def test_two_tables_that_share_a_file_lose_nothing() -> None:
    one, other = table(steady()), table(steady())
    one.milliseconds([ZEROS])
    other.milliseconds([SPREAD])
    assert set(table(nobody).milliseconds([ZEROS, SPREAD])) == {ZEROS, SPREAD}


def test_a_ratio_that_a_busy_machine_left_vague_is_measured_again_next_time() -> None:
    busy = Rounds({ZEROS: [10.0] * 20, GATHERED: [11.0, 19.0] * 10})
    first = table(busy)
    assert first.cheaper([ZEROS], [GATHERED]) == first.cheaper([ZEROS], [GATHERED])
    assert len(busy.questions) == 1
    quiet = steady()
    assert table(quiet).cheaper([ZEROS], [GATHERED]).chosen == "b"
    assert len(quiet.questions) == 1


def test_a_cost_that_a_busy_machine_left_vague_is_measured_again_next_time() -> None:
    busy = Rounds({ZEROS: [10.0] * 20, GATHERED: [11.0, 19.0] * 10})
    first = table(busy)
    assert first.milliseconds([ZEROS, GATHERED]) == first.milliseconds([ZEROS, GATHERED])
    assert len(busy.questions) == 1
    quiet = steady()
    table(quiet).milliseconds([ZEROS, GATHERED])
    assert [question.shapes for question in quiet.questions] == [(GATHERED,)]


def test_without_a_writable_folder_the_results_are_there_all_the_same(cache) -> None:
    cache.write_text("a file where the folder would be")
    measurer = steady()
    unkept = table(measurer)
    assert unkept.milliseconds([ZEROS])[ZEROS].median == 10.0
    assert unkept.milliseconds([ZEROS])[ZEROS].median == 10.0
    assert len(measurer.questions) == 1


def test_the_folder_follows_the_environment(tmp_path, monkeypatch) -> None:
    stamp = make_stamp("ort-cpu", 2)
    assert cost_path(stamp).parent == tmp_path / "cache" / "costs"
    monkeypatch.delenv("FINEGATES_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cost_path(stamp).parent == tmp_path / "xdg" / "finegates-export" / "costs"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cost_path(stamp).parent == Path.home() / ".cache" / "finegates-export" / "costs"
