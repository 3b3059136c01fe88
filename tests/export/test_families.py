"""The contract of a family, run over every one: what its file says is so, and slicing by it changes nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from finegates_export.errors import UnsupportedError
from finegates_export.families import FAMILIES, REFUSED, family_of
from finegates_export.families.residual import residual_map
from finegates_export.gates.gated_model import GatedModel
from finegates_export.pruning.fold import fold
from finegates_export.pruning.planner import make_plan
from finegates_export.pruning.shrink import shrink
from finegates_export.pruning.widths import Widths
from tests.export.compare import PRACTICE, REJECTED, Outputs, difference, torch_outputs
from tests.tiny import FRACTIONS, LORA, random_gates, tiny_lora
from tests.tiny_models import DECODER_VARIANTS, FAMILY_VARIANTS, VARIANTS, tiny_model

EVERY = pytest.mark.parametrize("variant", FAMILY_VARIANTS)
LAYOUTS = pytest.mark.parametrize(("layout", "width"), [("coupled", False), ("matrix", False), ("coupled", True)])
NO_WIDTH = ("deberta-own", *DECODER_VARIANTS)
"""Variants whose residual stream is read where no norm carries a gate."""


def structure_of(model):
    return family_of(model.config.model_type).structure(model.config)


def gated_tiny(variant, layout, *, width=False, closed=None, lora=False, seed=5):
    model = tiny_model(variant)
    structure = structure_of(model)
    wrapped = tiny_lora(model, structure.linears(), LORA, seed) if lora else model
    residual = residual_map(model, structure) if width else None
    gated = GatedModel(wrapped, structure, layout, width=width).eval()
    shares = FRACTIONS if closed is None else closed
    gated.gates.load_vectors(random_gates(structure, layout, shares, seed, residual))
    return gated, model


def shrunk(gated, change=lambda plan: plan):
    model = fold(gated)
    structure = structure_of(model)
    plan = change(make_plan(model, structure, Widths()))
    return shrink(model, structure, plan), plan


def at(outputs, width):
    """The outputs with the dims of the residual stream that a plan keeps."""
    return outputs if width is None else Outputs(outputs.logits, outputs.hidden[:, list(width)])


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_family_says_where_every_linear_is_and_how_large(variant):
    model = tiny_model(variant)
    for group in structure_of(model).groups():
        for side in group.sides:
            weight = model.get_submodule(side.linear).weight
            rows = weight.shape[0] if side.axis == "row" else weight.shape[1]
            assert rows == group.rows(side) * side.blocks, (side, group)
    assert structure_of(model).linear_weights == sum(
        model.get_submodule(path).weight.numel() for path in structure_of(model).linears()
    )


@EVERY
def test_the_head_and_the_layers_share_no_parameter_and_the_head_is_not_empty(variant):
    model = tiny_model(variant)
    family = family_of(model.config.model_type)
    heads = family.head_modules(model)
    assert heads
    assert not any(path.startswith(f"{head}.") for head in heads for path in structure_of(model).linears())


@EVERY
@pytest.mark.parametrize("lora", [False, True], ids=["plain", "lora"])
@LAYOUTS
def test_folding_and_slicing_change_nothing(variant, layout, width, lora):
    if width and variant in NO_WIDTH:
        pytest.skip("its width cannot be gated, see test_a_width_that_cannot_be_gated_is_named")
    gated, plain = gated_tiny(variant, layout, width=width, lora=lora)
    reference = torch_outputs(gated, plain)
    narrow, plan = shrunk(gated)
    after = torch_outputs(narrow)
    assert difference(at(reference, plan.width), after) < PRACTICE
    assert plan.kept_weights < plan.linear_weights
    assert (plan.width is not None) == width
    assert sum(
        module.weight.numel() for path, module in narrow.named_modules() if path in structure_of(plain).linears()
    ) == plan.kept_weights  # fmt: skip
    if plan.width is not None:  # a narrower model is an ordinary one: nothing of the old width is left in it
        shapes = {tuple(p.shape) for p in narrow.parameters()}
        assert not any(plan.hidden_size in shape and plan.hidden_size != 32 for shape in shapes)
        assert reference.hidden[:, [d for d in range(32) if d not in plan.width]].any() == np.False_


@EVERY
@LAYOUTS
@pytest.mark.parametrize("closed", [{}, {"qk": 1.0}, {"vo": 1.0}, {"ffn": 1.0}, {"qk": 1.0, "vo": 1.0, "ffn": 1.0}])
def test_everything_of_a_kind_may_be_open_or_closed(variant, layout, width, closed):
    if width and variant in NO_WIDTH:
        pytest.skip("its width cannot be gated")
    gated, plain = gated_tiny(variant, layout, width=width, closed=closed)
    reference = torch_outputs(gated, plain)
    narrow, plan = shrunk(gated)
    assert difference(at(reference, plan.width), torch_outputs(narrow)) < PRACTICE
    assert plan.attention_layers == (0 if "vo" in closed else 2)
    assert plan.feed_forward_layers == (0 if "ffn" in closed else 2)


def another_scale(model, layer):
    attention = model.get_submodule(layer.attention.module)
    attention.heads = dataclasses.replace(attention.heads, scale=attention.heads.scale * 1.5)


def lost_output_bias(model, layer):
    bias = model.get_submodule(layer.attention.output).bias
    if bias is None:
        model.get_submodule(layer.attention.output).weight.data[0] = 0
    else:
        bias.data.zero_()


def live_neurons_cut(model, layer):
    down = model.get_submodule(layer.feed_forward.down)
    down.weight.data[:, down.weight.data.norm(dim=0).topk(4).indices] = 0


def a_live_query_row_cut(model, layer):
    query = model.get_submodule(layer.attention.query.linear)
    query.weight.data[:4] = 0


@EVERY
@pytest.mark.parametrize("mutation", [another_scale, lost_output_bias, live_neurons_cut, a_live_query_row_cut])
def test_a_mutation_of_the_shrunk_model_is_seen(variant, mutation):
    gated, plain = gated_tiny(variant, "coupled")
    reference = torch_outputs(gated, plain)
    narrow, _ = shrunk(gated)
    assert difference(reference, torch_outputs(narrow)) < PRACTICE
    mutation(narrow, structure_of(plain).layers[-1])
    assert difference(reference, torch_outputs(narrow)) > REJECTED


def test_rotary_tables_of_the_wrong_pairs_are_seen():
    gated, plain = gated_tiny("modernbert", "coupled")
    reference = torch_outputs(gated, plain)
    narrow, _ = shrunk(gated)
    assert difference(reference, torch_outputs(narrow)) < PRACTICE
    for layer in narrow.model.layers:
        layer.attn.rotation.dims = layer.attn.rotation.dims.flip(0)
    assert difference(reference, torch_outputs(narrow)) > REJECTED


def test_the_position_bias_of_the_wrong_heads_is_seen():
    gated, plain = gated_tiny("mpnet", "coupled", closed={"heads": 0.25})
    reference = torch_outputs(gated, plain)
    narrow, _ = shrunk(gated)
    assert difference(reference, torch_outputs(narrow)) < PRACTICE
    for layer in narrow.mpnet.encoder.layer:
        layer.attention.attn.kept = layer.attention.attn.kept.flip(0)
    assert difference(reference, torch_outputs(narrow)) > REJECTED


def test_a_dim_that_position_terms_read_goes_only_with_both_rows():
    gated, plain = gated_tiny("deberta-own", "matrix", closed={})
    vectors = gated.gates.vectors()
    query, key = (side.name for side in next(structure_of(plain).groups()).sides)
    vectors[query][:3] = vectors[key][2:5] = -0.9
    gated.gates.load_vectors(vectors)
    reference = torch_outputs(gated, plain)
    narrow, plan = shrunk(gated)
    assert difference(reference, torch_outputs(narrow)) < PRACTICE
    assert "1 Q/K dims: 0 on all sides" in plan.layers[0].attention.why


def test_a_deberta_whose_config_does_not_name_what_it_leaves_at_its_default_is_served():
    """`share_att_key` and `norm_rel_ebd` are no fields of transformers' config: its model has defaults for them."""
    config = tiny_model("deberta-own").config
    family = family_of(config.model_type)
    expected = family.structure(config), family.width_refusal(config)
    for name in ("share_att_key", "norm_rel_ebd"):
        delattr(config, name)
    assert (family.structure(config), family.width_refusal(config)) == expected


@pytest.mark.parametrize("training", [False, True])
def test_statistics_run_over_the_open_dims_in_training_too(training):
    """With them over all dims a closed dim would still speak through the norm."""
    gated, plain = gated_tiny("bert", "coupled", width=True)
    gated.train(training)
    plain.eval()  # dropout off
    reference = torch_outputs(gated, plain)
    closed = [dim for dim, value in enumerate(gated.gates.vectors()["width"]) if value <= -0.5]
    with torch.no_grad():
        plain.bert.embeddings.word_embeddings.weight[:, closed] += 3.0
    assert difference(reference, torch_outputs(gated, plain)) < 1e-6
    with torch.no_grad():
        plain.bert.embeddings.word_embeddings.weight[:, next(d for d in range(32) if d not in closed)] += 3.0
    assert difference(reference, torch_outputs(gated, plain)) > REJECTED


def test_a_width_that_cannot_be_gated_is_named():
    refusals = {}
    for variant in FAMILY_VARIANTS:
        config = tiny_model(variant).config
        refusals[variant] = family_of(config.model_type).width_refusal(config)
    assert {variant for variant, reason in refusals.items() if reason} == set(NO_WIDTH)
    assert "read without a norm" in refusals["deberta-own"]


def test_every_family_has_a_tiny_variant_and_a_name_of_its_own():
    assert {family_of(tiny_model(variant).config.model_type).name for variant in FAMILY_VARIANTS} == {
        family.name for family in FAMILIES
    }
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize("model_type", ["albert", "t5"])
def test_other_architectures_are_refused_by_name_with_what_is_supported(model_type):
    with pytest.raises(
        UnsupportedError, match=rf"'{model_type}' is not supported.*supported are: bert, camembert"
    ) as told:
        family_of(model_type)
    assert ("one set of weights" in str(told.value)) == (model_type in REFUSED)
