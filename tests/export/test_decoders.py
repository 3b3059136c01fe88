"""What may be removed of a decoder, rule by rule: logits stay, with and without a cache, and a slip is seen."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch

from finegates_export.families import family_of
from finegates_export.pruning.planner import rows_of_side
from finegates_export.pruning.ragged.linear import NoAttention
from tests.export.compare import PRACTICE, REJECTED, structure_of
from tests.export.decoding import apart, cut, logits, rows
from tests.tiny_models import DECODER_VARIANTS, stored_model, tiny_model

HEAD, GROUP, HEADS = 8, 2, 2
"""Of the tiny Llama: dims of a head, query heads that share a KV head, KV heads."""
LAYER = 1


def generator(variant="llama", **config):
    return tiny_model(variant, generator=True, **{"activation": "silu", **config})


def side(model, role, layer=LAYER):
    """A gated side's weight by unit, a view of shape (heads, copies, halves, units, residual), and its biases so."""
    place = {"query": (0, 0), "key": (0, 1), "value": (1, 0), "output": (1, 1), "gate": (2, 0), "factor": (2, 1)}
    kind, number = place.get(role, (2, -1))
    group = structure_of(model).layers[layer].groups()[kind]
    where = group.sides[number]
    if where.axis == "column":
        return model.get_submodule(where.linear).weight.detach().t().unflatten(0, group.axes(where)), None
    weight, bias = (None if rows is None else rows.detach() for rows in rows_of_side(model, where))
    return weight.unflatten(0, group.axes(where)), None if bias is None else bias.view(group.axes(where))


def close(model, role, index, *, bias=True, layer=LAYER):
    """Zero some of a side, rows with their biases; `index` is into heads, copies, halves, units."""
    weight, biases = side(model, role, layer)
    weight[index] = 0.0
    if biases is not None and bias:
        biases[index] = 0.0


def held(model, change=lambda plan: plan):
    """The plan, after the logits were compared; what was compared with, and the smaller model."""
    reference = logits(model)
    small, plan = cut(model, change)
    assert apart(reference, logits(small)) < PRACTICE
    assert apart(reference, logits(small, cached=True)) < PRACTICE
    return plan, reference, small


def seen(close_some, change, **config):
    """Whether a mutation of the plan is seen."""
    model = generator(**config)
    close_some(model)
    reference = logits(model)
    small, _ = cut(model, change)
    return apart(reference, logits(small)) > REJECTED


def changed_attention(**values):
    def change(plan):
        layer = plan.layers[LAYER]
        attention = dataclasses.replace(layer.attention, **values)
        layers = (*plan.layers[:LAYER], dataclasses.replace(layer, attention=attention), *plan.layers[LAYER + 1 :])
        return dataclasses.replace(plan, layers=layers)

    return change


ANY = slice(None)


@pytest.mark.parametrize("variant", DECODER_VARIANTS)
def test_a_whole_decoder_keeps_its_logits_and_its_tied_embeddings(variant):
    model = generator(variant, activation="gelu_new")
    tied = model.config.tie_word_embeddings
    plan, _, small = held(model)
    assert plan.removed == 0.0
    assert (small.get_output_embeddings().weight is small.get_input_embeddings().weight) == tied


@pytest.mark.parametrize("role", ["down", "factor", "gate"])
def test_a_gated_neuron_goes_by_any_of_its_three(role):
    model = generator()
    close(model, role, (0, 0, 0, slice(3, 10)))
    plan, reference, small = held(model)
    assert plan.layers[LAYER].feed_forward.neurons == (*range(3), *range(10, 64))
    small.model.layers[LAYER].mlp.down_proj.weight.data[:, :4] = 0.0
    assert apart(reference, logits(small)) > REJECTED


def test_a_neuron_whose_activation_is_not_0_at_0_stays_by_its_gate_row():
    model = generator(activation="sigmoid")
    close(model, "gate", (0, 0, 0, slice(3, 10)))
    assert len(held(model)[0].layers[LAYER].feed_forward.neurons) == 64


@pytest.mark.parametrize("role", ["query", "key"])
def test_a_rotary_pair_goes_by_its_key_rows_or_by_those_of_every_query_head(role):
    model = generator()
    for head, pair in ((0, 1), (1, 3)):  # other pairs in each head: their angles differ
        close(model, role, (head, ANY, ANY, pair))
    plan, reference, small = held(model)
    assert plan.layers[LAYER].attention.qk == ((0, 2, 3, 4, 6, 7), (0, 1, 2, 4, 5, 6))
    rotation = small.model.layers[LAYER].self_attn.rotation
    rotation.dims = rotation.dims.flip(0)
    assert apart(reference, logits(small)) > REJECTED


def test_half_a_pair_or_one_query_head_of_a_group_keeps_the_pair():
    model = generator()
    close(model, "key", (ANY, ANY, 0, 1))
    close(model, "query", (ANY, 0, ANY, 2))
    assert held(model)[0].layers[LAYER].attention.qk_width == HEAD


def test_a_kv_head_goes_with_all_its_query_heads():
    def one_group(model):
        close(model, "output", (0, ANY, ANY, ANY))

    model = generator()
    one_group(model)
    attention = held(model)[0].layers[LAYER].attention
    assert attention.heads == (1,)
    assert "1 of 2 heads: no V/O dim left" in attention.why
    assert seen(one_group, changed_attention(heads=(0,)))


def test_a_lone_query_head_stays_and_the_plan_says_why():
    model = generator()
    close(model, "output", (0, 1, ANY, ANY))
    plan, _, small = held(model)
    attention = plan.layers[LAYER].attention
    assert attention.heads == (0, 1)
    assert attention.why == "1 query heads stay though O's columns are 0: other query heads need their KV heads"
    assert small.model.layers[LAYER].self_attn.q_proj.out_features == HEADS * GROUP * HEAD


def test_a_value_dim_goes_by_its_row_or_by_its_column_in_every_query_head():
    def some(model):
        close(model, "output", (ANY, ANY, ANY, 2))
        close(model, "value", (ANY, ANY, ANY, 5))
        close(model, "output", (ANY, 0, ANY, 7))  # the other query head reads it

    model = generator()
    some(model)
    assert held(model)[0].layers[LAYER].attention.vo == ((0, 1, 3, 4, 6, 7),) * HEADS
    assert seen(some, changed_attention(vo=((0, 1, 3, 4, 6),) * HEADS))


def test_a_value_dim_that_is_a_bias_alone_goes_into_the_output_bias_once_a_query_head():
    def some(model):
        close(model, "value", (ANY, ANY, ANY, slice(2, 5)), bias=False)

    model = generator("qwen2")
    some(model)
    plan, _, small = held(model)
    assert plan.layers[LAYER].attention.vo_width == HEAD - 3
    assert small.model.layers[LAYER].self_attn.o_proj.bias is not None
    assert seen(some, changed_attention(constants=()), variant="qwen2")
    assert seen(some, changed_attention(group=1), variant="qwen2")


def test_behind_a_shared_norm_a_pair_goes_only_where_every_head_closed_it_in_q_and_k():
    eps = 5.0  # as large as what it is added to, so that its share shows
    model = generator("qwen3", head_dim=HEAD)
    for layer in model.model.layers:
        layer.self_attn.q_norm.variance_epsilon = layer.self_attn.k_norm.variance_epsilon = eps
    for role in ("query", "key"):
        close(model, role, (ANY, ANY, ANY, 1))
        close(model, role, (0, ANY, ANY, 2))
    close(model, "key", (ANY, ANY, ANY, 3))
    plan, reference, small = held(model)
    attention = plan.layers[LAYER].attention
    kept = attention.qk_width / attention.width_before
    assert kept == 1 - 2 / attention.width_before
    assert attention.why == "1 Q/K pairs: 0 in Q and K of every head that stays"
    norms = (small.model.layers[LAYER].self_attn.q_norm, small.model.layers[LAYER].self_attn.k_norm)
    for weight_off, eps_off in ((kept**0.5, 1.0), (1.0, kept), (1.0, 1.0)):  # as they were before the cut, and as now
        for norm in norms:
            norm.weight.data *= weight_off
            norm.eps *= eps_off
        difference = apart(reference, logits(small))
        assert difference < PRACTICE if weight_off * eps_off == 1.0 else difference > REJECTED
        for norm in norms:
            norm.weight.data /= weight_off
            norm.eps /= eps_off


def test_a_head_that_goes_needs_no_pair_of_a_shared_norm():
    model = generator("qwen3")
    close(model, "value", (0, ANY, ANY, ANY))
    for role in ("query", "key"):
        close(model, role, (1, ANY, ANY, 0))
    attention = held(model)[0].layers[LAYER].attention
    assert (attention.heads, attention.qk_width) == ((1,), attention.width_before - 2)


@pytest.mark.parametrize("variant", DECODER_VARIANTS)
def test_a_first_layer_without_attention_still_counts_the_tokens(variant):
    """transformers asks the first layer how long the past is, for positions and masks."""
    model = generator(variant, activation="gelu_new")
    close(model, "output", (ANY, ANY, ANY, ANY), layer=0)
    plan, reference, small = held(model)
    assert plan.attention_layers == 1
    unplaced = logits(model, placed=False)
    assert apart(unplaced, logits(small, cached=True, placed=False)) < PRACTICE
    empty = small.get_submodule(structure_of(model).layers[0].attention.module)
    empty.forward = partial(NoAttention.forward, empty)
    assert apart(reference, logits(small)) < PRACTICE
    with pytest.raises((RuntimeError, IndexError, AssertionError)):  # masks of another length, or other logits
        assert apart(unplaced, logits(small, cached=True, placed=False)) < REJECTED


def test_nothing_left_of_any_layer_is_a_model_still():
    model = generator("gpt2", activation="gelu_new")
    for layer in (0, 1):
        close(model, "value", (ANY, ANY, ANY, ANY), bias=False, layer=layer)
        close(model, "down", (ANY, ANY, ANY, ANY), layer=layer)
    plan, _, _ = held(model)
    assert plan.kept_weights == 0


@torch.no_grad()
def test_gpt2_is_made_of_linears_and_goes_back_into_what_transformers_stores(tmp_path):
    stored = stored_model("gpt2", generator=True)
    reference = logits(stored)
    family = family_of("gpt2")
    family.make_linears(stored)
    assert all(isinstance(stored.get_submodule(path), torch.nn.Linear) for path in structure_of(stored).linears())
    assert apart(reference, logits(stored)) < PRACTICE
    stored.save_pretrained(tmp_path, state_dict=family.stored_tensors(stored))
    again = type(stored).from_pretrained(tmp_path).eval()
    assert apart(reference, logits(again)) < PRACTICE
    again.transformer.h[0].attn.c_attn.weight.data[:, 0] += 1.0
    assert apart(reference, logits(again)) > REJECTED


def test_the_rows_are_what_they_are_said_to_be():
    ids, mask, positions = rows()
    assert (ids[mask == 0] == 0).all()
    assert positions[1, 5:8].tolist() == [0, 1, 2]
