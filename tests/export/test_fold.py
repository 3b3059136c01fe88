"""Folding is W = diag(w_r) (W0 + s B A) diag(w_c), b = w_r * b, whatever adapter, layout and dtype of the base."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from finegates_export.errors import InputError
from finegates_export.gates.adapter import LoraSettings
from finegates_export.gates.gated_model import plain_model
from finegates_export.pruning.fold import fold
from finegates_export.sources.assemble import assemble, base_of
from finegates_export.sources.run_folder import read_run
from tests.export.compare import (
    PRACTICE,
    REJECTED,
    ROLES,
    difference,
    expected_gates,
    gated,
    linear_of,
    structure_of,
    torch_outputs,
)
from tests.tiny import FRACTIONS, random_gates, tiny_lora
from tests.tiny_models import tiny_model

ADAPTERS = {
    "no lora": None,
    "lora": LoraSettings(rank=3, alpha=6.0),
    "rslora": LoraSettings(rank=3, alpha=6.0, rslora=True),
    "dora": LoraSettings(rank=3, alpha=6.0, dora=True),
    "dora with rslora": LoraSettings(rank=3, alpha=6.0, dora=True, rslora=True),
}


def float64(tensor):
    return tensor.detach().double().numpy()


def merged_by_hand(linear, settings):
    """W0 + s B A in float64; DoRA gives every row the length that was learned for it."""
    if settings is None:
        return float64(linear.weight), float64(linear.bias)
    w0 = float64(linear.base_layer.weight)
    w_a, w_b = (float64(getattr(linear, name)["default"].weight) for name in ("lora_A", "lora_B"))
    merged = w0 + settings.alpha / (settings.rank**0.5 if settings.rslora else settings.rank) * w_b @ w_a
    if settings.dora:
        lengths = float64(linear.lora_magnitude_vector["default"].weight)
        merged = lengths[:, None] * merged / np.linalg.norm(merged, axis=1, keepdims=True)
    return merged, float64(linear.bias)


def gated_tiny(layout, settings=None, vectors=None):
    model = tiny_model()
    structure = structure_of(model)
    vectors = random_gates(structure, layout, FRACTIONS, seed=6) if vectors is None else vectors
    wrapped = tiny_lora(model, structure.linears(), settings, seed=3) if settings else model
    return gated(wrapped, layout, vectors), vectors


def folded_by_hand(model, layout, vectors, settings):
    """Weight and bias of every linear, by layer and role."""
    result = {}
    for layer in range(2):
        for role in ROLES:
            weight, bias = merged_by_hand(linear_of(model, role, layer), settings)
            w_r, w_c = expected_gates(layout, vectors, role, *weight.shape, layer=layer)
            result[layer, role] = (w_r[:, None] * weight * w_c, w_r * bias)
    return result


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("layout", ["matrix", "coupled", "none"])
def test_folded_weights_are_those_of_the_formula(layout, adapter):
    model, vectors = gated_tiny(layout, ADAPTERS[adapter])
    expected = folded_by_hand(model.model, layout, vectors, ADAPTERS[adapter])
    folded = fold(model)
    for (layer, role), (weight, bias) in expected.items():
        linear = linear_of(folded, role, layer)
        assert type(linear) is torch.nn.Linear
        assert (linear.weight.dtype, linear.bias.dtype) == (torch.float32, torch.float32)
        np.testing.assert_allclose(float64(linear.weight), weight, atol=1e-6)
        np.testing.assert_allclose(float64(linear.bias), bias, atol=1e-6)
        assert np.array_equal(linear.weight.numpy() == 0, weight == 0)  # closed is exactly zero
    assert not folded.training
    assert not any(parameter.requires_grad for parameter in folded.parameters())


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("layout", ["matrix", "coupled"])
def test_the_folded_model_computes_what_the_gated_one_does(layout, adapter):
    """Gates on wrapped layers act outside LoRA: inside, they would miss the adapter's part."""
    model, _ = gated_tiny(layout, ADAPTERS[adapter])
    reference = torch_outputs(model, plain_model(model.model))
    assert difference(reference, torch_outputs(fold(model))) < PRACTICE


@pytest.mark.parametrize("layout", ["matrix", "coupled"])
def test_gates_that_missed_the_adapter_would_be_seen(layout):
    settings = ADAPTERS["lora"]
    model, vectors = gated_tiny(layout, settings)
    reference = torch_outputs(model, plain_model(model.model))
    plain = merged_by_hand(linear_of(model.model, "down"), settings)[0]
    w0 = float64(linear_of(model.model, "down").base_layer.weight)
    w_r, w_c = expected_gates(layout, vectors, "down", *w0.shape)
    folded = fold(model)
    linear_of(folded, "down").weight.copy_(torch.from_numpy(w_r[:, None] * w0 * w_c + (plain - w0)))
    assert difference(reference, torch_outputs(folded)) > REJECTED


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_a_half_precision_base_is_folded_in_float32(workshop, dtype):
    settings = ADAPTERS["lora"]
    run = read_run(workshop.run("coupled", settings, samples=0, dtype=dtype))
    model = assemble(run, base_of(run)).gated
    stored = float64(linear_of(model.model, "query").base_layer.weight)
    assert np.array_equal(stored, torch.from_numpy(stored).to(dtype).double().numpy())
    expected = folded_by_hand(model.model, "coupled", run.gates, settings)
    folded = fold(model)
    drift = 0.0
    for (layer, role), (weight, _) in expected.items():
        found = linear_of(folded, role, layer).weight
        assert found.dtype == torch.float32
        np.testing.assert_allclose(float64(found), weight, atol=1e-6)
        drift = max(drift, float((found.to(dtype).double() - torch.from_numpy(weight)).abs().max()))
    assert drift > 100 * 1e-6  # what merging in half precision loses


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_folded_weight_that_is_not_finite_is_refused_by_name(value):
    model, _ = gated_tiny("coupled")
    linear_of(model.model, "down").weight.data[0, 0] = value
    with pytest.raises(InputError, match=r"layer\.1\.output\.dense holds NaN or infinite values"):
        fold(model)


@pytest.mark.parametrize("layout", ["coupled", "none"])
def test_an_adapter_that_is_not_finite_is_refused(layout):
    model, _ = gated_tiny(layout, ADAPTERS["lora"])
    linear_of(model.model, "up").lora_B["default"].weight.data[2, 1] = float("nan")
    with pytest.raises(InputError, match="the adapter cannot be merged"):
        fold(model)
