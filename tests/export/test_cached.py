"""A decoder's graph with a cache computes what the model does: at once, in steps, under padding, layer by layer."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest
import torch

from finegates_export.common.cache_layout import IDS, MASK, POSITIONS
from finegates_export.costs.model_widths import ANY_WIDTH
from finegates_export.errors import ChainError, FusionError
from finegates_export.families import family_of
from finegates_export.graphs.passes.graph_pass import run_passes
from finegates_export.graphs.passes.tied_head import TieHead
from finegates_export.graphs.saving import save_graph
from finegates_export.graphs.targets import TARGETS
from finegates_export.graphs.trace_cached import write_cached_graph
from finegates_export.pruning.cache_widths import shrunk_cache, unpruned_cache
from finegates_export.pruning.planner import make_plan
from finegates_export.pruning.shrink import shrink
from finegates_export.verification.cached_forms import cached_onnx_form, cached_torch_form
from finegates_export.verification.chain import Chain
from finegates_export.verification.link import Tolerances
from finegates_export.verification.prompts import left_padded, make_prompts, written_by
from finegates_export.verification.steps import same_choices
from tests.tiers import tiered
from tests.tiny_models import DECODER_VARIANTS, MAX_LENGTH, VOCABULARY, tiny_model

RAGGED = [(variant, "ort-cpu") for variant in DECODER_VARIANTS]
RAGGED += [(variant, "portable") for variant in ("llama", "qwen3")]
PRACTICE = 1e-5
"""What float32 graphs differ by, of the scale, at most."""


class Decoder:
    """A tiny model of three layers: the first without attention, the second with fewer heads, the third narrower.

    Args:
        variant: a key of `DECODER_VARIANTS`.
        whole: leave everything in.
    """

    def __init__(self, variant: str, *, whole: bool = False) -> None:
        self.model = tiny_model(variant, generator=True, layers=1 if whole else 3, seed=4)
        self.family = family_of(self.model.config.model_type)
        self.structure = self.family.structure(self.model.config)
        if not whole:
            self._close()
        self.plan = make_plan(self.model, self.structure, TARGETS["portable"].WIDTHS)
        self.shrunk = shrink(copy.deepcopy(self.model), self.structure, self.plan)
        self.layout = shrunk_cache(self.plan)

    @torch.no_grad()
    def _close(self) -> None:
        first, second, third = (layer.attention for layer in self.structure.layers)
        outputs = [self.model.get_submodule(one.output).weight for one in (first, second, third)]
        outputs[0].zero_()
        width = second.head_dim * second.group
        outputs[1][:, :width] = 0
        for query in range(third.group):
            outputs[2][:, query * third.head_dim + 3 + np.arange(3)] = 0
        sides = (third.query, third.key)
        if third.norms:  # one pair goes from all heads
            sides = tuple((side, range(third.heads), 1) for side in sides)
        else:
            sides = tuple((third.key, [head], 1 + head) for head in range(third.heads))
        for side, heads, dim in sides:
            linear = self.model.get_submodule(side.linear)
            copies = third.group if third.norms and side == third.query else 1
            start = side.block * (len(linear.weight) // side.blocks)
            for row in self._rows(third, heads, dim, copies):
                linear.weight[start + row] = 0
                if linear.bias is not None:
                    linear.bias[start + row] = 0

    def _rows(self, attention, heads, dim, copies):
        dims = (dim, dim + attention.head_dim // 2)
        return [(head * copies + one) * attention.head_dim + d for head in heads for one in range(copies) for d in dims]

    def graph(self, target: str):
        opset = TARGETS[target].CACHED_OPSET
        graph = write_cached_graph(self.shrunk, self.family.encoder(self.shrunk), self.layout, opset)
        self.tied = TieHead()(graph).modified
        return run_passes(graph, TARGETS[target].cached_passes(self.plan.attention_layers))

    def chain(self) -> Chain:
        """With the unpruned model as the reference."""
        unpruned = unpruned_cache(self.structure)
        form = cached_torch_form(self.model, self.family.encoder(self.model), unpruned)
        batches = make_prompts(None, VOCABULARY, MAX_LENGTH)
        chain = Chain("text-generation", [*batches, *written_by(form, batches, 2 * MAX_LENGTH)], Tolerances())
        chain.set_reference(form)
        return chain


decoder = cache(Decoder)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cached")

    @cache
    def write(variant: str, target: str) -> Path:
        path = folder / f"{variant}-{target}.onnx"
        save_graph(decoder(variant).graph(target), path)
        return path

    return write


@pytest.mark.parametrize(("variant", "target"), tiered(RAGGED, default=(("llama", "ort-cpu"), ("gpt2", "ort-cpu"))))
def test_ragged_layers_read_a_text_at_once_and_in_steps(written, variant, target):
    own = decoder(variant)
    path, chain = written(variant, target), own.chain()
    assert {batch.steps for batch in chain.batches} >= {(), (5, 4, 1, 1, 1, 1)}
    link = chain.add("ONNX", cached_onnx_form(path, threads=1))
    assert max(link.relative, link.hidden_relative) < PRACTICE
    assert link.greedy == 1
    heads = [layer.attention.heads for layer in own.structure.layers]
    assert [one.layer for one in own.layout.layers] == [1, 2]
    assert own.layout.layers[0].heads == heads[1] - 1
    assert own.layout.layers[1].heads == heads[2]
    assert own.layout.layers[1].key_width < own.structure.layers[2].attention.head_dim
    assert [value.name for value in onnx.load(path).graph.input][3:] == list(own.layout.past_names)


@pytest.mark.slow
def test_an_unpruned_model_too(tmp_path):
    own = decoder("gpt2", whole=True)
    save_graph(own.graph("ort-cpu"), tmp_path / "whole.onnx")
    link = own.chain().add("ONNX", cached_onnx_form(tmp_path / "whole.onnx", threads=1))
    assert link.relative < PRACTICE
    assert own.layout == unpruned_cache(own.structure)


@pytest.mark.parametrize("variant", DECODER_VARIANTS)
def test_a_shrunk_torch_model_reads_behind_a_cache(variant):
    own = decoder(variant)
    form = cached_torch_form(own.shrunk, own.family.encoder(own.shrunk), own.layout)
    assert own.chain().add("shrunk", replace(form, stepwise=True)).relative < PRACTICE


def positions_anew(inputs):
    """Positions that forget the past; a rotation sees distances alone, so those of padding would do no harm."""
    return {**inputs, POSITIONS: np.tile(np.arange(inputs[IDS].shape[1]), (len(inputs[IDS]), 1))}


def no_padding(inputs):
    return {**inputs, MASK: np.ones_like(inputs[MASK])}


def other_heads(inputs):
    """The heads of one layer's keys in another order."""
    return {name: array[:, ::-1] if name == "past_key_values.2.key" else array for name, array in inputs.items()}


def late_by_one(inputs):
    return {name: np.roll(array, 1, axis=2) if name.endswith("1.value") else array for name, array in inputs.items()}


@pytest.mark.slow
@pytest.mark.parametrize("change", [positions_anew, no_padding, other_heads, late_by_one])
def test_a_wrong_input_is_seen(written, change):
    form = cached_onnx_form(written("llama", "ort-cpu"), threads=1)
    run = form.run
    with pytest.raises(ChainError, match="differs from the gated model"):
        decoder("llama").chain().add("wrong", replace(form, run=lambda inputs: run(change(inputs))))


def test_a_lost_scale_is_seen(written, tmp_path):
    model = onnx.load(written("llama", "ort-cpu"))
    for node in model.graph.node:
        kept = [attribute for attribute in node.attribute if attribute.name != "scale"]
        del node.attribute[:]
        node.attribute.extend(kept)
    onnx.save(model, tmp_path / "lost.onnx")
    with pytest.raises(ChainError, match="differs from the gated model"):
        decoder("llama").chain().add("wrong", cached_onnx_form(tmp_path / "lost.onnx", threads=1))


def test_the_gated_model_writes_what_it_finds_likeliest():
    own = decoder("llama")
    form = cached_torch_form(own.model, own.family.encoder(own.model), unpruned_cache(own.structure))
    text = next(batch for batch in own.chain().batches if batch.written)
    choices = form(text.inputs)["logits"][:, -text.written - 1 : -1].argmax(-1)
    np.testing.assert_array_equal(choices, text.inputs[IDS][:, -text.written :])


def test_a_tie_is_the_same_choice_and_nothing_else_is():
    before = np.array([[[0.0, 1.0, 2.0], [5.0, 5.0001, 0.0], [1.0, 0.0, 0.0]]])
    after = np.array([[[9.0, 1.0, 2.0], [5.0001, 5.0, 0.0], [1.0, 0.0, 0.0]]])
    np.testing.assert_array_equal(same_choices(before, after, 2, 1e-3), [[False, True]])
    np.testing.assert_array_equal(same_choices(before, after, 2, 1e-5), [[False, False]])


@pytest.mark.slow
def test_attention_and_rotation_are_one_operator_each_and_heads_stay_grouped(written):
    graph = onnx_ir.load(written("llama", "ort-cpu")).graph
    counted = Counter(node.op_type for node in graph)
    assert (counted["Attention"], counted["RMSNormalization"], counted["Softmax"]) == (
        2,
        6,
        0,
    )  # the first layer's norm in front of attention is gone
    assert counted["RotaryEmbedding"] == 2, "of the layer whose heads kept the same pairs"
    keys = [node.inputs[1].shape[1] for node in graph if node.op_type == "Attention"]
    assert keys == [1, 2], "keys as many as KV heads, not query heads"
    assert Counter(node.op_type for node in onnx_ir.load(written("llama", "portable")).graph)["Attention"] == 0


@pytest.mark.slow
def test_fewer_operators_than_layers_fail_the_export():
    own = decoder("llama")
    graph = write_cached_graph(own.shrunk, own.family.encoder(own.shrunk), own.layout, 20)
    with pytest.raises(FusionError, match="attention: 0 of 2"):
        run_passes(graph, TARGETS["ort-cpu"].cached_passes(own.plan.attention_layers))


@pytest.mark.parametrize(
    ("variant", "tied"), tiered([("llama", False), ("qwen2", True)], fast=1, default=[("qwen2", True)])
)
def test_a_tied_head_is_stored_once(written, variant, tied):
    hidden = decoder(variant).structure.hidden_size
    tables = [
        tensor.name
        for tensor in onnx.load(written(variant, "ort-cpu")).graph.initializer
        if sorted(tensor.dims) == sorted((VOCABULARY, hidden))
    ]
    wide = [layer.feed_forward.intermediate_size for layer in decoder(variant).structure.layers].count(VOCABULARY)
    assert len(tables) == 3 * wide + (1 if tied else 2)  # a network as wide as the vocabulary has such matrices too


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("words", tiered([VOCABULARY, 3000], default=(3000,)))
def test_tables_too_large_to_be_folded_early_are_tied_too(tmp_path, words, tied):
    model = tiny_model("qwen2", generator=True, layers=1)
    model.resize_token_embeddings(words)
    model.config.tie_word_embeddings = tied
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() + 0.1)
    family = family_of("qwen2")
    layout = unpruned_cache(family.structure(model.config))
    shrunk = shrink(model, family.structure(model.config), make_plan(model, family.structure(model.config), ANY_WIDTH))
    graph = write_cached_graph(shrunk, family.encoder(shrunk), layout, 23)
    assert TieHead()(graph).modified == tied
    save_graph(run_passes(graph, TARGETS["ort-cpu"].cached_passes(1)), tmp_path / "model.onnx")
    found = [t for t in onnx.load(tmp_path / "model.onnx").graph.initializer if max(t.dims, default=0) == words]
    assert words == VOCABULARY or len(found) == (1 if tied else 2)


@pytest.mark.slow
def test_padding_leaves_no_trace(written):
    form = cached_onnx_form(written("mistral", "ort-cpu"), threads=1)
    row = np.random.default_rng(0).integers(0, VOCABULARY, 9)
    alone = form(left_padded([row]))["logits"]
    beside = form(left_padded([row, np.resize(row, 20)]))["logits"]
    assert np.isfinite(beside).all(), "a token that attends to nothing would be NaN"
    np.testing.assert_allclose(beside[:1, -9:], alone, atol=1e-5)
