"""Which units stay at a removed share, and gates that hold to it afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from transformers import BertConfig

from finegates_export.errors import InputError
from finegates_export.families.bert import Bert
from finegates_export.gates.bank import LEAST_OPEN, GateBank
from finegates_export.gates.layout import build_layout
from finegates_export.pruning.settle import settle, settle_width
from finegates_export.pruning.widths import Widths


def bert(layers, hidden, heads, intermediate):
    return Bert().structure(
        BertConfig(
            hidden_size=hidden, num_attention_heads=heads, intermediate_size=intermediate, num_hidden_layers=layers
        )
    )


FINE = bert(4, 64, 4, 256)
"""A neuron is 1/1536 of the weights, a step of all heads of a layer 1/384."""
DRAWS = {
    "uniform": lambda generator, size: generator.random(size),
    "skewed": lambda generator, size: generator.exponential(size=size) ** 3,
    "mostly closed": lambda generator, size: generator.random(size) * (generator.random(size) > 0.6),
    "few values": lambda generator, size: generator.integers(0, 4, size) / 4.0,
    "equal": lambda generator, size: np.ones(size),
    "worthless": lambda generator, size: np.zeros(size),
}


def drawn_scores(structure, draw, seed):
    generator = np.random.default_rng(seed)
    return {(group.layer, group.kind): DRAWS[draw](generator, group.size) for group in structure.groups()}


def removed_share(structure, keep):
    """Counted from the masks: a unit is two rows or columns of hidden size."""
    kept = sum(int(mask.sum()) for mask in keep.values()) * 2 * structure.hidden_size
    return 1 - kept / structure.linear_weights


def assert_equal_widths(structure, keep):
    for layer in structure.layers:
        heads, dim = layer.attention.heads, layer.attention.head_dim
        qk, vo = (keep[layer.index, kind].reshape(heads, dim).sum(1) for kind in ("qk", "vo"))
        assert len(set(qk[qk > 0])) <= 1
        assert len(set(vo[vo > 0])) <= 1
        assert ((qk > 0) == (vo > 0)).all()  # a head goes as a whole or stays with both


@limits(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), removed=st.floats(0.0, 0.99), draw=st.sampled_from(sorted(DRAWS)))
def test_settled_share_is_the_target_or_up_to_a_point_more_with_equal_widths(seed, removed, draw):
    scores = drawn_scores(FINE, draw, seed)
    keep = settle(scores, FINE, removed, Widths())
    worthless = np.mean(np.concatenate([values == 0 for values in scores.values()]))  # may go even if not asked for
    assert removed - 1e-9 <= removed_share(FINE, keep) <= max(removed, worthless) + 0.01
    assert_equal_widths(FINE, keep)


@limits(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), removed=st.floats(0.05, 0.9))
def test_widths_come_in_the_multiples_that_a_target_likes(seed, removed):
    keep = settle(drawn_scores(FINE, "uniform", seed), FINE, removed, Widths(head_multiple=4, ffn_multiple=16))
    assert removed_share(FINE, keep) >= removed - 1e-9
    assert_equal_widths(FINE, keep)
    for layer in FINE.layers:
        assert keep[layer.index, "ffn"].sum() % 16 == 0
        for kind in ("qk", "vo"):
            widths = keep[layer.index, kind].reshape(layer.attention.heads, -1).sum(1)
            assert not (widths % 4).any()


@limits(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), removed=st.floats(0.0, 0.9))
def test_without_heads_to_equalise_exactly_the_best_units_stay(seed, removed):
    structure = bert(3, 16, 1, 40)
    scores = drawn_scores(structure, "uniform", seed)
    for layer in range(3):  # a head that stays keeps a dim of each kind: give it one worth keeping
        scores[layer, "qk"][0] = scores[layer, "vo"][0] = 2.0
    keep = settle(scores, structure, removed, Widths())
    count = int((1 - removed) * structure.linear_weights + 1e-6) // (2 * structure.hidden_size)
    every, kept = (np.concatenate([part[key] for key in sorted(scores)]) for part in (scores, keep))
    assert int(kept.sum()) == count
    assert every[kept].min() >= np.sort(every)[::-1][:count].min()


def test_nothing_removed_keeps_everything():
    keep = settle(drawn_scores(FINE, "uniform", 0), FINE, 0.0, Widths())
    assert all(mask.all() for mask in keep.values())


@pytest.mark.parametrize(("removed", "attentions"), [(0.1, 3), (0.2, 3), (0.4, 3), (0.7, 2)])
@pytest.mark.parametrize("widths", [Widths(), Widths(head_multiple=8)], ids=["any width", "in steps of 8"])
@pytest.mark.parametrize("draw", ["equal", "worthless"])
def test_units_of_one_worth_do_not_all_go_at_once(draw, widths, removed, attentions):
    structure = bert(3, 48, 4, 192)
    keep = settle(drawn_scores(structure, draw, 0), structure, removed, widths)
    assert removed - 1e-9 <= removed_share(structure, keep) <= removed + 0.01
    assert sum(bool(keep[layer, "vo"].any()) for layer in range(3)) >= attentions


@pytest.mark.parametrize("removed", [-0.1, 1.0, float("nan")])
def test_a_share_that_cannot_be_removed_is_refused(removed):
    with pytest.raises(InputError, match="must lie in"):
        settle(drawn_scores(FINE, "uniform", 0), FINE, removed, Widths())


def test_scores_that_are_not_finite_are_refused():
    scores = drawn_scores(FINE, "uniform", 0)
    scores[1, "ffn"][3] = np.nan
    with pytest.raises(InputError, match=r"scores of layer 1 \(ffn\) are not finite"):
        settle(scores, FINE, 0.4, Widths())


def settled_bank(layout, removed):
    bank = GateBank(build_layout(layout, FINE), FINE)
    generator = torch.Generator().manual_seed(2)
    bank.mu.data.copy_(torch.rand(len(bank), generator=generator) * 1.4 - 0.6)
    scores = {key: values.double().numpy() for key, values in bank.unit_scores().items()}
    keep = {key: torch.from_numpy(mask) for key, mask in settle(scores, FINE, removed, Widths()).items()}
    bank.settle(keep)
    return bank, keep


@pytest.mark.parametrize("layout", ["matrix", "coupled"])
@pytest.mark.parametrize("removed", [0.2, 0.6, 0.9])
def test_settled_gates_remove_the_target_and_keep_what_was_chosen(layout, removed):
    bank, keep = settled_bank(layout, removed)
    assert bank.closed_share() == pytest.approx(removed, abs=0.01)
    products = bank.unit_products(bank.values())
    assert all(torch.equal(products[key] > 0, keep[key]) for key in keep)


@pytest.mark.parametrize("layout", ["matrix", "coupled"])
def test_settling_again_opens_no_gate_that_was_closed(layout):
    bank, _ = settled_bank(layout, 0.6)
    closed = ~bank.alive
    bank.settle({key: torch.ones(values.shape, dtype=torch.bool) for key, values in bank.unit_scores().items()})
    assert bool(closed.any())
    assert not bool((bank.values()[closed] > 0).any())
    assert not bool((bank.sample(0.1, seed=0, step=0)[closed] > 0).any())


@pytest.mark.parametrize("layout", ["matrix", "coupled"])
def test_after_any_step_kept_units_stay_open_and_closed_ones_closed(layout):
    bank, keep = settled_bank(layout, 0.6)
    for direction in (-3.0, 3.0):
        bank.mu.data.add_(direction)
        bank.hold()
        kept = bank.keeps_units & bank.alive
        assert float(bank.values()[kept].min()) >= LEAST_OPEN - 1e-6
        assert float(bank.values()[~bank.alive].max()) == 0.0
        products = bank.unit_products(bank.values())
        assert all(torch.equal(products[key] > 0, keep[key]) for key in keep)
        assert bank.closed_share() == pytest.approx(0.6, abs=0.01)


def test_a_width_stays_where_it_is_open_and_never_takes_more_than_is_asked():
    scores = np.array([1.0, 0.4, 0.0, -0.3, 0.9, -0.1, 0.2, -0.5])
    assert settle_width(scores, 0.9).tolist() == [True, True, False, False, True, False, True, False]
    assert settle_width(scores, 0.25).tolist() == [True, True, True, False, True, True, True, False]
    assert settle_width(np.full(8, -1.0), 0.99).sum() == 1


def test_a_narrower_residual_stream_leaves_the_units_more_of_the_budget():
    scores = drawn_scores(FINE, "uniform", 3)
    wide, narrow = (settle(scores, FINE, 0.5, Widths(), residual_width=width) for width in (64, 40))
    kept = [sum(int(mask.sum()) for mask in keep.values()) for keep in (wide, narrow)]
    assert kept[0] * 64 == pytest.approx(kept[1] * 40, rel=0.01)
    assert kept[1] > kept[0]


@limits(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), first=st.floats(0.05, 0.7), draw=st.sampled_from(sorted(DRAWS)))
def test_a_second_level_is_met_without_the_units_that_the_first_one_closed(seed, first, draw):
    kept = settle(drawn_scores(FINE, draw, seed), FINE, first, Widths())
    fresh = drawn_scores(FINE, draw, seed + 1)
    second = first + (1.0 - first) / 2
    without = {key: np.where(kept[key], values, -1.0) for key, values in fresh.items()}
    keep = settle(without, FINE, second, Widths())
    assert all(not bool((keep[key] & ~kept[key]).any()) for key in keep), "a closed unit was reopened"
    assert removed_share(FINE, keep) == pytest.approx(second, abs=0.01)
    assert_equal_widths(FINE, keep)


def test_closed_units_that_are_ranked_like_others_would_be_counted_as_kept():
    kept = settle(drawn_scores(FINE, "uniform", 0), FINE, 0.5, Widths())
    fresh = drawn_scores(FINE, "uniform", 1)
    keep = settle(fresh, FINE, 0.75, Widths())
    assert any(bool((keep[key] & ~kept[key]).any()) for key in keep)
    really = {key: keep[key] & kept[key] for key in keep}
    assert removed_share(FINE, really) > 0.76
