"""Every rule of what is dead, one by one, on weights made for it; what a plan counts, says and keeps."""

from __future__ import annotations

import json

import pytest
import torch

from finegates_export.errors import InputError
from finegates_export.pruning.plan import ShrinkPlan
from finegates_export.pruning.planner import make_plan
from finegates_export.pruning.shrink import shrink
from finegates_export.pruning.widths import Widths
from tests.export.compare import PRACTICE, difference, linear_of, structure_of, torch_outputs
from tests.tiny_models import tiny_model

HEADS, HEAD_DIM, NEURONS, HIDDEN = 4, 8, 64, 32
EVERY_DIM, EVERY_NEURON = tuple(range(HEADS * HEAD_DIM)), tuple(range(NEURONS))
STAGGERED = (0, 9, 18, 27)
"""Dim 0 of head 0, dim 1 of head 1, and so on: as many in every head."""


def closed(role, units, *, layer=0, bias=True):
    """A cut: zero rows (with their biases), or columns where the linear reads the units."""

    @torch.no_grad()
    def cut(model):
        linear = linear_of(model, role, layer)
        if role in ("output", "down"):
            linear.weight[:, list(units)] = 0.0
            return
        linear.weight[list(units)] = 0.0
        if bias:
            linear.bias[list(units)] = 0.0

    return cut


def planned(*cuts, widths=None, activation="gelu"):
    """Plan a model after cuts; the shrunk model is held to equal it every time."""
    model = tiny_model(activation=activation)
    for cut in cuts:
        cut(model)
    structure = structure_of(model)
    plan = make_plan(model, structure, widths or Widths())
    whole = torch_outputs(model)
    assert difference(whole, torch_outputs(shrink(model, structure, plan))) < PRACTICE
    return plan


def without(size, units):
    return tuple(unit for unit in range(size) if unit not in units)


def dims_left(units):
    """What each head keeps of its dims."""
    return tuple(without(HEAD_DIM, [unit % HEAD_DIM for unit in units if unit // HEAD_DIM == h]) for h in range(HEADS))


def test_a_neuron_that_down_does_not_read_is_dead():
    feed_forward = planned(closed("down", (3, 10))).layers[0].feed_forward
    assert feed_forward.neurons == without(NEURONS, (3, 10))
    assert feed_forward.constants == ()
    assert feed_forward.why == "2 FFN neurons: down's column is 0"


@pytest.mark.parametrize("activation", ["gelu", "sigmoid"])
def test_a_neuron_without_up_weights_is_a_constant(activation):
    feed_forward = planned(closed("up", (3, 10)), activation=activation).layers[0].feed_forward
    assert feed_forward.neurons == without(NEURONS, (3, 10))
    assert feed_forward.constants == (3, 10)
    assert feed_forward.why == "2 FFN neurons: up's row is 0"


def test_a_neuron_closed_on_both_sides_leaves_no_constant():
    feed_forward = planned(closed("up", (3, 10)), closed("down", (10, 11)), activation="sigmoid").layers[0].feed_forward
    assert feed_forward.neurons == without(NEURONS, (3, 10, 11))
    assert feed_forward.constants == (3,)


@pytest.mark.parametrize(("role", "kind"), [("query", "qk"), ("key", "qk"), ("value", "vo"), ("output", "vo")])
def test_a_dim_of_a_head_is_dead_when_either_side_is_zero(role, kind):
    attention = planned(closed(role, STAGGERED)).layers[0].attention
    other = {"qk": "vo", "vo": "qk"}[kind]
    assert getattr(attention, kind) == dims_left(STAGGERED)
    assert getattr(attention, other) == dims_left(())
    assert attention.heads == (0, 1, 2, 3)
    assert attention.padding == 0
    side = "columns" if role == "output" else "rows"
    assert attention.why == f"4 {kind[0].upper()}/{kind[1].upper()} dims: {role[0].upper()}'s {side} are 0"


def test_both_sides_of_a_dim_count_once():
    attention = planned(closed("query", STAGGERED), closed("key", STAGGERED), closed("key", (1, 8, 19, 31)))
    assert attention.layers[0].attention.qk == dims_left((*STAGGERED, 1, 8, 19, 31))


@pytest.mark.parametrize("role", ["query", "key"])
def test_a_zero_row_whose_bias_is_left_is_alive(role):
    plan = planned(closed(role, STAGGERED, bias=False))
    assert plan.kept_weights == plan.linear_weights


@pytest.mark.parametrize(("role", "part"), [("value", "attention"), ("up", "feed_forward")])
def test_a_zero_row_whose_bias_is_left_is_a_constant_that_is_folded(role, part):
    """Attention weighs values with a sum of 1, so a constant value comes out as it went in."""
    plan = planned(closed(role, STAGGERED, bias=False))
    assert getattr(plan.layers[0], part).constants == STAGGERED
    assert plan.kept_weights == plan.linear_weights - 2 * HIDDEN * len(STAGGERED)


@pytest.mark.parametrize("role", ["query", "key", "value", "output", "up", "down"])
def test_one_tiny_weight_keeps_a_unit_alive(role):
    def revive(model):
        weight = linear_of(model, role, 0).weight.data
        (weight.T if role in ("output", "down") else weight)[list(STAGGERED), 5] = 1e-30

    plan = planned(closed(role, STAGGERED), revive)
    assert plan.kept_weights == plan.linear_weights


def test_a_head_without_v_o_dims_goes_with_its_q_k_dims():
    plan = planned(closed("value", range(8, 12)), closed("output", range(12, 16)))
    attention = plan.layers[0].attention
    assert attention.heads == (0, 2, 3)
    assert (len(attention.qk), attention.qk_width, len(attention.vo), attention.vo_width) == (3, 8, 3, 8)
    assert attention.rows(attention.vo) == [*range(8), *range(16, 32)]
    assert attention.why.startswith("1 of 4 heads: no V/O dim left; ")
    assert plan.kept_weights == plan.linear_weights - 4 * HEAD_DIM * HIDDEN


def test_a_layer_whose_q_k_dims_are_all_dead_keeps_one_zero_dim_a_head():
    attention = planned(closed("key", EVERY_DIM)).layers[0].attention
    assert attention.qk == ((0,),) * HEADS
    assert attention.padding == HEADS
    assert attention.heads == (0, 1, 2, 3)


def test_a_head_whose_q_k_dims_are_all_dead_is_padded_to_the_others():
    attention = planned(closed("query", range(8))).layers[0].attention
    assert attention.qk == dims_left(())
    assert attention.padding == HEAD_DIM


def test_a_layer_without_v_o_dims_has_no_attention():
    plan = planned(closed("output", EVERY_DIM))
    attention = plan.layers[0].attention
    assert (attention.heads, attention.qk, attention.vo, attention.padding) == ((), (), (), 0)
    assert (plan.attention_layers, plan.feed_forward_layers) == (1, 2)
    assert plan.kept_weights == plan.linear_weights - 4 * HIDDEN * HIDDEN


@pytest.mark.parametrize("role", ["up", "down"])
def test_a_layer_without_neurons_has_no_feed_forward_network(role):
    plan = planned(closed(role, EVERY_NEURON), activation="sigmoid")
    assert plan.layers[0].feed_forward.neurons == ()
    assert plan.layers[0].feed_forward.constants == (EVERY_NEURON if role == "up" else ())
    assert (plan.attention_layers, plan.feed_forward_layers) == (2, 1)
    assert plan.kept_weights == plan.linear_weights - 2 * HIDDEN * NEURONS


def test_where_nothing_is_dead_everything_stays():
    plan = planned()
    assert (plan.kept_weights, plan.removed, plan.padding_weights) == (plan.linear_weights, 0.0, 0)
    assert plan.linear_weights == 2 * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * NEURONS)
    assert "nothing is dead" in str(plan)


def test_everything_closed_leaves_no_layer_weight():
    plan = planned(*(closed(role, units, layer=layer) for layer in range(2)
                     for role, units in (("value", EVERY_DIM), ("down", EVERY_NEURON))))  # fmt: skip
    assert (plan.kept_weights, plan.removed) == (0, 1.0)
    assert (plan.attention_layers, plan.feed_forward_layers) == (0, 0)


def test_heads_are_padded_to_the_widest_and_the_padding_is_counted():
    plan = planned(closed("output", (0, 1, 2, 8, 9, 16)))  # heads keep 5, 6, 7 and 8 V/O dims
    attention = plan.layers[0].attention
    assert attention.vo == dims_left(())
    assert attention.padding == 6
    assert plan.padding_weights == 6 * 2 * HIDDEN
    assert plan.kept_weights == plan.linear_weights
    uneven = planned(closed("output", (0, 1, 2, 8, 9, 16, 24))).layers[0].attention
    assert uneven.vo == ((0, 1, 3, 4, 5, 6, 7), (0, 2, 3, 4, 5, 6, 7), without(8, (0,)), without(8, (0,)))
    assert uneven.padding == 3


def test_widths_round_up_to_what_the_target_likes_by_keeping_dead_units():
    cuts = closed("query", STAGGERED), closed("up", range(5))
    plan = planned(*cuts, widths=Widths(head_multiple=4, ffn_multiple=16), activation="sigmoid").layers[0]
    assert plan.attention.qk == dims_left(())  # 7 dims become 8
    assert plan.attention.padding == 4
    assert plan.feed_forward.neurons == EVERY_NEURON  # 59 become 64
    assert plan.feed_forward.padding == 5
    assert plan.feed_forward.constants == ()  # they are still there and need no stand-in


def varied_plan():
    return planned(
        closed("key", STAGGERED), closed("output", range(16, 24)), closed("down", range(20)), closed("up", (40,)),
        closed("value", EVERY_DIM, layer=1),
    )  # fmt: skip


def test_a_plan_survives_json():
    plan = varied_plan()
    again = ShrinkPlan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan
    assert str(again) == str(plan)


@pytest.mark.parametrize("damage", [lambda v: v.pop("layers"), lambda v: v["layers"][0]["attention"].pop("qk"),
                                    lambda v: v["layers"][1]["feed_forward"].update(colour=1)])  # fmt: skip
def test_json_that_is_no_plan_is_refused(damage):
    values = json.loads(json.dumps(varied_plan().to_json()))
    damage(values)
    with pytest.raises(InputError, match="not a shrink plan of this version"):
        ShrinkPlan.from_json(values)


def test_the_printed_plan_says_what_goes_and_why():
    first, second, total = str(varied_plan()).splitlines()[1:]
    assert "4 -> 3" in first
    assert "8 -> 7" in first
    assert "64 -> 43" in first
    for reason in ("1 of 4 heads: no V/O dim left", "8 V/O dims: O's columns are 0", "4 Q/K dims: K's rows are 0",
                   "20 FFN neurons: down's column is 0", "1 FFN neurons: up's row is 0"):  # fmt: skip
        assert reason in first
    assert "4 -> 0" in second
    assert "4 of 4 heads: no V/O dim left" in second
    kept = 3 * 2 * HIDDEN * (7 + 8) + 43 * 2 * HIDDEN + 64 * 2 * HIDDEN
    assert (
        total == f"removed {1 - kept / 16384:.1%} of the layers' linear weights (16,384 -> {kept:,}, 0 of them padding)"
    )


@pytest.mark.parametrize(("batch", "sequence"), [(1, 1), (2, 17), (8, 128)])
def test_kept_flops_count_linears_scores_and_weighted_values(batch, sequence):
    tokens, pairs = batch * sequence, batch * sequence**2

    def by_hand(layers):
        """Layers as (heads, Q/K width, V/O width, neurons); a multiplication and an addition are two operations."""
        total = 0
        for heads, qk, vo, neurons in layers:
            total += 2 * tokens * HIDDEN * (heads * qk * 2 + heads * vo * 2 + neurons * 2)
            total += 2 * pairs * heads * (qk + vo)
        return total

    plan = varied_plan()
    kept, whole = by_hand([(3, 7, 8, 43), (0, 0, 0, 64)]), by_hand([(4, 8, 8, 64)] * 2)
    assert plan.flops(batch, sequence) == kept
    assert plan.kept_flops(batch, sequence) == pytest.approx(kept / whole)
