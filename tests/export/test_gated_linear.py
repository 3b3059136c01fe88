"""A gated linear in one node has the gradients of the formula written out, and keeps next to nothing for them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from finegates_export.gates.adapter import LoraSettings, LoraWeights, add_lora
from finegates_export.gates.gate import evaluation_gate
from finegates_export.gates.gated_linear import LinearWeights, gated_linear, weights_of

ROWS, TOKENS, INPUTS, OUTPUTS, RANK = 3, 5, 8, 6, 2
SCALING = 1.5
LEAVES = ("x", "weight", "bias", "a", "b", "column", "column head", "row", "row head")
"""Everything that may be trained; gates are products of two, as a head's and a dim's."""
FROZEN = frozenset({"weight", "bias"})
CASES = {
    "both sides": frozenset(),
    "columns": frozenset({"row", "row head"}),
    "rows": frozenset({"column", "column head"}),
    "no LoRA": frozenset({"a", "b"}),
    "no bias": frozenset({"bias"}),
    "no gates": frozenset({"row", "row head", "column", "column head"}),
}
"""What a linear lacks."""


def written_out(x, weights, column, row):
    x = x if column is None else x * column.to(x.dtype)
    y = nn.functional.linear(x, weights.weight, weights.bias)
    if weights.lora is not None:
        y = y + nn.functional.linear(nn.functional.linear(x, weights.lora.a), weights.lora.b) * weights.lora.scaling
    return y if row is None else y * row.to(y.dtype)


def leaves_without(lacking, dtype=torch.float64, frozen=frozenset(), seed=3):
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "x": (ROWS, TOKENS, INPUTS), "weight": (OUTPUTS, INPUTS), "bias": (OUTPUTS,), "a": (RANK, INPUTS),
        "b": (OUTPUTS, RANK), "column": (INPUTS,), "column head": (INPUTS,), "row": (OUTPUTS,), "row head": (OUTPUTS,),
    }  # fmt: skip
    drawn = {name: torch.randn(shapes[name], generator=generator, dtype=torch.float64) for name in LEAVES}
    for name in ("column", "column head", "row", "row head"):
        drawn[name] = 0.4 * drawn[name]
        drawn[name][:3] = torch.tensor([-0.9, 0.7, 0.1])  # closed, open, and in between
    return {
        name: tensor.to(dtype).requires_grad_(name not in frozen)
        for name, tensor in drawn.items()
        if name not in lacking
    }


def result(way, leaves):
    lora = LoraWeights(leaves["a"], leaves["b"], SCALING) if "a" in leaves else None
    gates = [
        evaluation_gate(leaves[side]) * evaluation_gate(leaves[f"{side} head"]) if side in leaves else None
        for side in ("column", "row")
    ]
    return way(leaves["x"], LinearWeights(leaves["weight"], leaves.get("bias"), lora), *gates)


def gradients(way, leaves):
    mixing = torch.randn(OUTPUTS, OUTPUTS, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    (result(way, leaves).double() @ mixing).tanh().sum().backward()
    return {name: leaf.grad for name, leaf in leaves.items()}


@pytest.mark.parametrize("frozen", [frozenset(), FROZEN, FROZEN | {"x"}], ids=["trained", "frozen", "first layer"])
@pytest.mark.parametrize("lacking", CASES.values(), ids=CASES)
def test_result_and_gradients_are_those_of_the_formula(lacking, frozen):
    one, other = (leaves_without(lacking, frozen=frozen) for _ in range(2))
    torch.testing.assert_close(result(gated_linear, one), result(written_out, other), atol=1e-12, rtol=1e-10)
    found, expected = gradients(gated_linear, one), gradients(written_out, other)
    for name, gradient in expected.items():
        if name in frozen:
            assert found[name] is None
            continue
        assert float(gradient.abs().max()) > 0.1
        torch.testing.assert_close(found[name], gradient, atol=1e-12, rtol=1e-10)


def test_a_closed_row_is_silent_and_a_closed_column_is_not_read():
    leaves = leaves_without(frozenset())
    y = result(gated_linear, leaves)
    assert not y[..., 0].any()
    assert bool(y[..., 1].any())
    with torch.no_grad():
        leaves["x"][..., 0] += 100.0
        assert torch.equal(result(gated_linear, leaves), y)
        leaves["x"][..., 1] += 100.0
        assert not torch.equal(result(gated_linear, leaves), y)


def relative_errors(way, seed):
    exact = gradients(written_out, leaves_without(frozenset(), frozen=FROZEN, seed=seed))
    leaves = leaves_without(frozenset(), torch.float32, FROZEN, seed)
    with torch.autocast("cpu", torch.bfloat16):
        assert result(way, leaves).dtype == torch.bfloat16
        found = gradients(way, leaves)
    assert all(found[name].dtype == torch.float32 for name in found if name not in FROZEN)
    return [float((found[name] - exact[name]).norm() / exact[name].norm()) for name in LEAVES if name not in FROZEN]


def test_under_autocast_gradients_are_as_near_as_the_formulas():
    lean, usual = (
        torch.tensor([relative_errors(way, seed) for seed in range(60)]).median(0).values
        for way in (gated_linear, written_out)
    )
    assert bool((lean > 0).all())
    assert bool((lean < 1.2 * usual).all())


def kept_for_backward(way):
    """Storages of an activation's or a matrix's size that autograd holds for a gated linear, its weights apart."""
    leaves = leaves_without(frozenset(), torch.float32, FROZEN)
    own = {leaf.untyped_storage().data_ptr() for leaf in leaves.values()}
    kept = set()

    def note(tensor):
        if tensor.numel() >= OUTPUTS * INPUTS and tensor.untyped_storage().data_ptr() not in own:
            kept.add(tensor.untyped_storage().data_ptr())
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        y = result(way, leaves)
    return kept, y


def test_nothing_of_an_activations_or_a_matrixs_size_is_kept_but_what_comes_out():
    kept, y = kept_for_backward(gated_linear)
    assert kept == {y.untyped_storage().data_ptr()}
    assert len(kept_for_backward(written_out)[0]) > 1


def test_what_comes_out_may_be_changed_in_place_where_no_row_gate_reads_it():
    leaves, same = (leaves_without(CASES["columns"]) for _ in range(2))
    y = result(gated_linear, leaves)
    y += 1.0
    y.square().sum().backward()
    (result(written_out, same) + 1.0).square().sum().backward()
    torch.testing.assert_close(leaves["a"].grad, same["a"].grad, atol=1e-12, rtol=1e-10)
    y = result(gated_linear, leaves_without(CASES["rows"]))
    y += 1.0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


class Other(nn.Linear):
    """A linear that does something else, as quantized ones do."""

    def forward(self, input):  # noqa: A002  # the base class's name
        return super().forward(input).relu()


class Holder(nn.Module):
    """A model of one linear, as peft wants it."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(INPUTS, OUTPUTS)


def wrapped(**settings):
    torch.manual_seed(0)
    inner = add_lora(Holder(), ("inner",), LoraSettings(rank=RANK, alpha=3.0, **settings)).base_model.model.inner
    nn.init.normal_(inner.lora_B["default"].weight)
    return inner


@pytest.mark.parametrize("settings", [{}, {"rslora": True}], ids=["lora", "rslora"])
def test_the_weights_of_a_linear_and_of_lora_around_it_are_all_that_it_does(settings):
    x = torch.randn(ROWS, INPUTS)
    for module in (nn.Linear(INPUTS, OUTPUTS, bias=False), wrapped(**settings), wrapped(dropout=0.5).eval()):
        weights = weights_of(module)
        assert weights is not None
        torch.testing.assert_close(gated_linear(x, weights, None, None), module(x))


def changed(change):
    module = wrapped()
    change(module)
    return module


ELSE = {
    "another forward": lambda: Other(INPUTS, OUTPUTS),
    "dropout": lambda: wrapped(dropout=0.5),
    "dora": lambda: wrapped(dora=True),
    "merged": lambda: changed(lambda module: module.merge()),
    "switched off": lambda: changed(lambda module: module.enable_adapters(False)),
    "another precision": lambda: changed(lambda module: module.base_layer.bfloat16()),
}


@pytest.mark.parametrize("make", ELSE.values(), ids=ELSE)
def test_whatever_does_more_than_its_weights_is_left_to_itself(make):
    assert weights_of(make()) is None
