"""The timer and the statistics over its rounds."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from finegates_bench.measuring.latency import make_timing, summarize
from finegates_export.common.shapes import Shape
from finegates_export.costs.timing.timer import Budget, time_interleaved
from finegates_export.pruning.plan import AttentionPlan, FeedForwardPlan, LayerPlan, ShrinkPlan

MS = 1_000_000


@pytest.fixture(autouse=True)
def _nothing_old_to_collect() -> Iterator[None]:
    """The timer collects garbage first, which takes seconds amid what earlier tests have left in the process."""
    gc.freeze()
    yield
    gc.unfreeze()


def test_every_round_runs_every_call_once_and_orders_differ() -> None:
    seen: list[str] = []
    calls = {name: (lambda name=name: seen.append(name)) for name in "abc"}
    times = time_interleaved(calls, Budget(rounds=20, seconds=0.0, warmup=2))
    rounds = [tuple(seen[i : i + 3]) for i in range(0, len(seen), 3)]
    assert len(rounds) == 22
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert len(set(rounds)) > 1
    assert {name: len(values) for name, values in times.items()} == {"a": 20, "b": 20, "c": 20}


def test_rounds_go_on_until_the_seconds_are_over() -> None:
    times = time_interleaved({"a": lambda: time.sleep(0.002)}, Budget(rounds=2, seconds=0.05, warmup=0))
    assert sum(times["a"]) >= 0.03e9
    assert len(times["a"]) > 2


def test_a_call_is_timed_by_itself() -> None:
    calls = {"slow": lambda: time.sleep(0.01), "fast": lambda: None}
    times = time_interleaved(calls, Budget(rounds=3, seconds=0.0, warmup=0))
    assert min(times["slow"]) >= 10 * MS
    assert sorted(times["fast"])[1] < 1 * MS


def test_garbage_collection_is_off_while_timing_and_on_again_when_a_call_fails() -> None:
    def fail() -> None:
        assert not gc.isenabled()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        time_interleaved({"a": fail}, Budget(rounds=1, seconds=0.0, warmup=0))
    assert gc.isenabled()


def test_summary_of_known_rounds() -> None:
    times = [value * MS for value in range(1, 102)]
    summary = summarize([times], [[2 * value for value in times]])
    assert summary.rounds == 101
    assert summary.p50_ms == 51.0
    assert summary.p95_ms == 96.0
    assert summary.ratio == 0.5
    assert summary.ratio_low == summary.ratio_high == 0.5, "rounds are drawn as pairs"


def test_interval_holds_the_ratio_and_narrows_with_more_rounds() -> None:
    few = summarize([[8 * MS, 9 * MS, 10 * MS, 11 * MS, 12 * MS] * 2], [[20 * MS] * 10])
    many = summarize([[8 * MS, 9 * MS, 10 * MS, 11 * MS, 12 * MS] * 200], [[20 * MS] * 1000])
    assert few.ratio_low < few.ratio == 0.5 < few.ratio_high
    assert few.ratio_low >= 0.4
    assert few.ratio_high <= 0.6
    assert many.ratio_high - many.ratio_low < few.ratio_high - few.ratio_low


def test_rounds_of_one_process_do_not_pass_for_certainty() -> None:
    """Two processes that disagree: each is sure of itself, and more rounds of the same do not help."""
    fast, slow = [4 * MS] * 500, [6 * MS] * 500
    pooled = summarize([fast + slow], [[10 * MS] * 1000])
    apart = summarize([fast, slow] * 3, [[10 * MS] * 500] * 6)
    assert apart.ratio == pytest.approx(0.5)
    assert apart.ratio_low < 0.45
    assert apart.ratio_high > 0.55
    alike = summarize([[5 * MS] * 500] * 6, [[10 * MS] * 500] * 6)
    assert (alike.ratio_low, alike.ratio_high) == (0.5, 0.5)
    assert apart.rounds == 3 * pooled.rounds == 3000


def test_a_slow_process_slows_both_models_and_leaves_their_ratio() -> None:
    summary = summarize([[4 * MS] * 5, [8 * MS] * 5], [[10 * MS] * 5, [20 * MS] * 5])
    assert (summary.ratio, summary.ratio_low, summary.ratio_high) == (0.4, 0.4, 0.4)
    assert summary.p50_ms == 6.0


def test_the_unpruned_model_against_itself_is_one() -> None:
    summary = summarize([[3 * MS, 5 * MS, 4 * MS]], [[3 * MS, 5 * MS, 4 * MS]])
    assert (summary.ratio, summary.ratio_low, summary.ratio_high) == (1.0, 1.0, 1.0)


def test_timing_puts_work_beside_time() -> None:
    timing = make_timing(summarize([[4 * MS] * 3], [[10 * MS] * 3]), half_plan(), Shape(2, 5))
    # 64 kept weights, 10 tokens: 1,280 operations; Q K^T and A V: 2 * 4 kept dims * 2 rows * 25 = 400.
    assert timing.gflop_per_second == pytest.approx(1680 / 1e9 / 0.004)
    assert timing.kept_flops == 0.5
    assert timing.ratio_over_kept_flops == pytest.approx(0.4 / 0.5)
    assert timing.rows_per_second == pytest.approx(500.0)


def half_plan() -> ShrinkPlan:
    """One layer of hidden size 4, two heads of width 2 and 8 neurons, half of each gone: 128 weights, 64 kept."""
    attention = AttentionPlan(2, 2, (0,), ((0, 1),), ((0, 1),), (), 0, "")
    return ShrinkPlan(4, (LayerPlan(0, attention, FeedForwardPlan(8, (0, 1, 2, 3), (), 0, "")),), 128)


def test_orders_follow_the_seed() -> None:
    def orders(seed: int) -> Counter[str]:
        seen: list[str] = []
        calls = {name: (lambda name=name: seen.append(name)) for name in "abcd"}
        time_interleaved(calls, Budget(rounds=8, seconds=0.0, warmup=0), seed)
        return Counter("".join(seen[i : i + 4]) for i in range(0, 32, 4))

    assert orders(1) == orders(1)
    assert orders(1) != orders(2)
