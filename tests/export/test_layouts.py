"""Which gates a layout has, and how many weights they keep."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from transformers import BertConfig

from finegates_export.errors import InputError, UnsupportedError
from finegates_export.families.bert import Bert
from finegates_export.gates.bank import GateBank
from finegates_export.gates.gate import open_probability
from finegates_export.gates.layout import build_layout
from tests.tiny import FRACTIONS, random_gates

SMALL = Bert().structure(BertConfig(hidden_size=6, num_attention_heads=2, intermediate_size=5, num_hidden_layers=2))
PAIRS = {"qk": ("attention.self.query", "attention.self.key"), "vo": ("attention.self.value", "attention.output.dense"),
         "ffn": ("intermediate.dense", "output.dense")}  # fmt: skip
UNIT_AXIS = {"attention.output.dense": "column", "output.dense": "column"}


def bank_of(layout, vectors=None, structure=SMALL):
    bank = GateBank(build_layout(layout, structure), structure)
    if vectors is not None:
        bank.load_vectors(vectors)
    return bank


def counted_by_hand(layout, values, *, residual):
    """Every single weight of SMALL: the product of all gates that must be open for it to stay, summed."""
    kept = 0.0
    for layer, (kind, pair) in itertools.product(range(2), PAIRS.items()):
        size = 5 if kind == "ffn" else 6
        for unit in range(size):
            if layout == "coupled":
                unit_gate = values[f"layers.{layer}.{kind}"][unit]
                unit_gate *= 1 if kind == "ffn" else values[f"layers.{layer}.heads"][unit // 3]
            else:
                unit_gate = 1.0
                for linear in pair:
                    path = f"bert.encoder.layer.{layer}.{linear}"
                    unit_gate *= values[f"{path}.{UNIT_AXIS.get(linear, 'row')}"][unit]
            for linear, dim in itertools.product(pair, range(6)):
                other = "row" if linear in UNIT_AXIS else "column"
                path = f"bert.encoder.layer.{layer}.{linear}"
                gate = values[f"{path}.{other}"][dim] if layout == "matrix" and residual else 1.0
                kept += float(unit_gate * gate)
    return kept / (2 * (4 * 6 * 6 + 2 * 6 * 5))


def test_matrix_layout_of_bert_base_has_165888_gate_parameters():
    assert build_layout("matrix", Bert().structure(BertConfig())).size == 165_888


def test_coupled_layout_of_bert_base_has_a_gate_a_unit_and_a_gate_a_head():
    assert build_layout("coupled", Bert().structure(BertConfig())).size == 12 * (768 + 768 + 3072 + 12)


def test_layout_none_has_no_gates_and_removes_nothing():
    bank = bank_of("none")
    assert len(bank) == 0
    assert float(bank.kept_share(bank.values())) == 1.0
    assert bank.closed_share() == 0.0


def test_an_unknown_layout_is_refused_by_name():
    with pytest.raises(UnsupportedError, match="'rows' does not exist; choose one of matrix, coupled, none"):
        build_layout("rows", SMALL)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("layout", ["matrix", "coupled"])
def test_kept_share_counts_every_weight_once_whoever_closes_it(layout, seed):
    shares = {kind: share * (1 + seed % 2) for kind, share in FRACTIONS.items()}
    vectors = random_gates(SMALL, layout, shares, seed)
    bank = bank_of(layout, vectors)
    values = {name: np.clip(mu.double().numpy() + 0.5, 0, 1) for name, mu in vectors.items()}
    assert float(bank.kept_share(bank.values())) == pytest.approx(counted_by_hand(layout, values, residual=True))
    closed = {name: (value > 0).astype(float) for name, value in values.items()}
    assert float(bank.kept_share((bank.values() > 0).float())) == pytest.approx(
        counted_by_hand(layout, closed, residual=True)
    )
    assert bank.closed_share() == pytest.approx(1 - counted_by_hand(layout, closed, residual=False))


def test_a_weight_whose_row_and_column_are_closed_counts_once():
    bank = bank_of("matrix")
    vectors = {name: torch.full_like(mu, 0.5) for name, mu in bank.vectors().items()}
    query = "bert.encoder.layer.0.attention.self.query"
    vectors[f"{query}.row"][0] = -1.0  # closes a row of query (6) and, as a unit, the row of key (6)
    vectors[f"{query}.column"][0] = -1.0  # closes a column of query (6), one weight of which is closed already
    bank.load_vectors(vectors)
    gone = 1 - float(bank.kept_share(bank.values()))
    assert gone * SMALL.linear_weights == pytest.approx(6 + 6 + 6 - 1, abs=1e-3)
    assert bank.nominal_share() == pytest.approx(gone)


def test_nominal_counts_what_residual_sides_silence_and_removed_does_not():
    bank = bank_of("matrix")
    vectors = {name: torch.full_like(mu, 0.5) for name, mu in bank.vectors().items()}
    vectors["bert.encoder.layer.0.attention.self.query.column"][0] = -1.0
    bank.load_vectors(vectors)
    assert bank.closed_share() == 0.0
    assert bank.nominal_share() * SMALL.linear_weights == pytest.approx(6, abs=1e-3)


@pytest.mark.parametrize("layout", ["matrix", "coupled"])
def test_expected_kept_share_multiplies_open_probabilities(layout):
    vectors = random_gates(SMALL, layout, FRACTIONS, 3)
    bank = bank_of(layout, vectors)
    values = {name: open_probability(mu.double(), 0.5).numpy() for name, mu in vectors.items()}
    assert float(bank.expected_kept_share(0.5)) == pytest.approx(counted_by_hand(layout, values, residual=True))
    bank.expected_kept_share(0.5).backward()
    assert bool((bank.mu.grad > 0).all())


def test_gate_vectors_come_back_as_they_were_loaded():
    vectors = random_gates(SMALL, "matrix", FRACTIONS, 3)
    again = bank_of("matrix", vectors).vectors()
    assert list(again) == list(vectors)
    assert all(torch.equal(again[name], vectors[name]) for name in vectors)


NAME = "layers.1.ffn"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda v: v.pop(NAME), f"no gate vector '{NAME}'"),
        (lambda v: v.update(extra=torch.zeros(2)), "unknown gate vector 'extra'"),
        (lambda v: v.update({NAME: torch.zeros(4)}), r"has shape \(4,\), the model needs \(5,\)"),
        (lambda v: v.update({NAME: torch.zeros(5, 1)}), r"has shape \(5, 1\), the model needs \(5,\)"),
        (lambda v: v.update({NAME: torch.full((5,), float("nan"))}), "holds NaN or infinite values"),
        (lambda v: v.update({NAME: torch.full((5,), float("inf"))}), "holds NaN or infinite values"),
    ],
    ids=["missing", "unknown", "short", "shape", "nan", "infinite"],
)
def test_gate_vectors_that_do_not_fit_are_refused(damage, message):
    vectors = random_gates(SMALL, "coupled", FRACTIONS, 3)
    damage(vectors)
    with pytest.raises(InputError, match=message):
        bank_of("coupled", vectors)
