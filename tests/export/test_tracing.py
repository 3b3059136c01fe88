"""The tracer's errors, and what transformers hands to attention from one version to the next."""

from __future__ import annotations

import pytest
import torch

from finegates_export.errors import UnsupportedError
from finegates_export.graphs.trace import trace
from finegates_export.pruning.ragged.causal import NoCausalAttention

AXES = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}


class Uneven(torch.nn.Module):
    def forward(self, x_BS):
        return x_BS + torch.cat([x_BS, x_BS], dim=1)


def test_what_stops_the_tracer_is_one_line():
    with pytest.raises(UnsupportedError) as refused:
        trace(Uneven(), (torch.ones(2, 8),), (AXES,), ("x",), ("y",), 20)
    told = str(refused.value)
    assert "\n" not in told
    assert "size of tensor a" in told
    assert all(name in told for name in ("torch ", "transformers ", "constraints.txt"))
    assert len(told) < 500


class Counting:
    """A cache that counts the tokens that it is given."""

    def __init__(self):
        self.tokens = 0

    def update(self, keys, _values, _layer):
        self.tokens += keys.shape[2]


class Replaced(torch.nn.Module):
    layer_idx = 0


@pytest.mark.parametrize(("name", "counted"), [("cache", 5), ("past_key_values", 5), ("renamed_again", 0)])
def test_a_cache_is_taken_by_either_of_its_names(name, counted):
    cache = Counting()
    NoCausalAttention(None, Replaced())(torch.zeros(2, 5, 8), **{name: cache})
    assert cache.tokens == counted
