"""The shrunk model computes what the gated one computes, whatever is closed."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from finegates_export.gates.adapter import LoraSettings
from finegates_export.gates.gated_model import plain_model
from finegates_export.pruning.fold import fold
from finegates_export.pruning.ragged import RaggedAttention
from finegates_export.pruning.ragged.linear import NoAttention
from tests.export.compare import (
    PRACTICE,
    REJECTED,
    difference,
    fold_and_shrink,
    gated,
    path_of,
    structure_of,
    torch_outputs,
)
from tests.tiny import FRACTIONS, LORA, random_gates, tiny_lora
from tests.tiny_models import tiny_model

ALL = 1.0
PATTERNS = {
    "nothing": {},
    "some of everything": FRACTIONS,
    "one head": {"heads": 0.25},
    "two heads": {"heads": 0.5},
    "three heads": {"heads": 0.75},
    "all heads": {"heads": ALL},
    "all Q/K dims": {"qk": ALL},
    "all V/O dims": {"vo": ALL},
    "all neurons": {"ffn": ALL},
    "no layer": {"qk": ALL, "vo": ALL, "ffn": ALL},
    "Q/K dims and neurons": {"qk": ALL, "ffn": ALL},
}
ADAPTERS = {"plain": None, "lora": LORA, "dora": LoraSettings(rank=2, alpha=3.0, dora=True)}


def gated_model(layout, closed, *, lora=None, activation="gelu", seed=4):
    model = tiny_model(activation=activation)
    structure = structure_of(model)
    vectors = random_gates(structure, layout, closed, seed)
    wrapped = tiny_lora(model, structure.linears(), lora, seed) if lora else model
    return gated(wrapped, layout, vectors)


def assert_shrinking_is_exact(gates):
    """Gated equals folded equals shrunk, and the shrunk module holds what the plan says."""
    reference = torch_outputs(gates, plain_model(gates.model))
    folded = torch_outputs(fold(copy.deepcopy(gates)))
    model, plan = fold_and_shrink(gates)
    shrunk = torch_outputs(model)
    assert difference(reference, folded) < PRACTICE
    assert difference(folded, shrunk) < PRACTICE
    weights = {name: p.numel() for name, p in model.named_parameters() if "encoder" in name and p.dim() == 2}
    assert sum(weights.values()) == plan.kept_weights
    return model, plan


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("layout", ["matrix", "coupled"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_shrunk_equals_folded(pattern, layout, adapter):
    gates = gated_model(layout, PATTERNS[pattern], lora=ADAPTERS[adapter])
    closed = gates.gates.closed_share()
    _, plan = assert_shrinking_is_exact(gates)
    if pattern in ("all heads", "all V/O dims", "no layer"):
        assert plan.attention_layers == 0
    elif pattern != "some of everything":  # a head takes its Q/K dims along: in the matrix layout no gate closes them
        closed *= 2 if layout == "matrix" and "head" in pattern else 1
        assert plan.removed + plan.padding_weights / plan.linear_weights == pytest.approx(closed, abs=1e-6)
    assert (plan.removed == 0.0) == (pattern == "nothing")


@pytest.mark.parametrize("layout", ["matrix", "coupled"])
@pytest.mark.parametrize("pattern", ["some of everything", "all neurons", "no layer"])
def test_neurons_that_are_constants_are_kept_as_constants(pattern, layout):
    """sigmoid(0) is not 0: a neuron with a closed up row outputs 0.5."""
    _, plan = assert_shrinking_is_exact(gated_model(layout, PATTERNS[pattern], activation="sigmoid"))
    constants = sum(len(layer.feed_forward.constants) for layer in plan.layers)
    assert (constants > 0) == (layout == "matrix")  # coupled gates act on down's columns


def test_without_gates_the_model_stays_whole():
    model, plan = assert_shrinking_is_exact(gated_model("none", {}, lora=LORA))
    assert plan.removed == 0.0
    assert all(isinstance(layer.attention.self, RaggedAttention) for layer in model.bert.encoder.layer)


def test_closed_layers_hold_constants_and_no_weights():
    model, _ = assert_shrinking_is_exact(gated_model("coupled", PATTERNS["no layer"]))
    for layer in model.bert.encoder.layer:
        assert isinstance(layer.attention.self, NoAttention)
        assert {name for name, _ in layer.named_parameters() if "LayerNorm" not in name} == {
            "attention.output.dense.bias", "output.dense.bias",
        }  # fmt: skip


def test_a_lost_constant_output_of_a_closed_layer_would_be_seen():
    gates = gated_model("coupled", PATTERNS["no layer"])
    reference = torch_outputs(gates, gates.model)
    model, _ = fold_and_shrink(gates)
    torch.nn.init.zeros_(model.get_submodule(path_of("output", 0)).bias)
    assert difference(reference, torch_outputs(model)) > REJECTED


shares = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.95, 1.0])


@limits(max_examples=60, deadline=None, derandomize=True)
@given(
    layout=st.sampled_from(["matrix", "coupled"]),
    closed=st.fixed_dictionaries(dict.fromkeys(("qk", "vo", "ffn", "heads", "residual"), shares)),
    activation=st.sampled_from(["gelu", "relu", "silu", "sigmoid"]),
    seed=st.integers(0, 2**31 - 1),
)
def test_any_gate_pattern_shrinks_exactly(layout, closed, activation, seed):
    assert_shrinking_is_exact(gated_model(layout, closed, activation=activation, seed=seed))
