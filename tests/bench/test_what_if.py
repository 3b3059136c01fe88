"""What-if levels: whole heads go, the lightest ones, and as large a share of the neurons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from finegates_bench.measuring.what_if import ranked
from finegates_export.families.bert import Bert
from finegates_export.families.structure import Structure
from finegates_export.pruning.layer_options import WHOLE_HEADS
from finegates_export.pruning.settle import settle
from finegates_export.pruning.widths import Widths


@pytest.fixture
def structure() -> Structure:
    from transformers import BertConfig

    config = BertConfig(hidden_size=96, num_hidden_layers=3, num_attention_heads=12, intermediate_size=384)
    return Bert().structure(config)


def magnitudes(structure: Structure) -> dict[Any, Any]:
    """Nearly equal ones, as random weights have them; one head and one neuron are light."""
    generator = np.random.default_rng(0)
    made = {(group.layer, group.kind): 1.0 + 0.01 * generator.random(group.size) for group in structure.groups()}
    made[1, "qk"].reshape(12, -1)[5] = made[1, "vo"].reshape(12, -1)[5] = 0.5
    made[2, "ffn"][7] = 0.5
    return made


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_heads_go_whole_and_in_the_share_of_the_neurons(structure: Structure, share: float) -> None:
    keep = settle(ranked(magnitudes(structure), structure), structure, share, Widths(head_multiple=WHOLE_HEADS))
    groups = list(structure.groups())
    for group in groups:
        if group.kind != "ffn":
            assert set(keep[group.layer, group.kind].reshape(12, -1).sum(1)) <= {0, 8}
    for kind in ("qk", "vo", "ffn"):
        masks = [keep[group.layer, group.kind] for group in groups if group.kind == kind]
        assert 1.0 - np.concatenate(masks).mean() == pytest.approx(share, abs=0.03)


def test_the_lightest_go_first(structure: Structure) -> None:
    ranks = ranked(magnitudes(structure), structure)
    assert ranks[1, "qk"].reshape(12, -1)[5].max() == min(ranks[layer, "qk"].min() for layer in range(3))
    assert int(ranks[2, "ffn"].argmin()) == 7
    assert ranks[2, "ffn"].min() < ranks[1, "ffn"].min()


def test_free_widths_of_such_magnitudes_would_keep_every_head(structure: Structure) -> None:
    keep = settle(magnitudes(structure), structure, 0.5, Widths())
    heads = np.concatenate([keep[layer, "vo"].reshape(12, -1).any(1) for layer in range(3)])
    assert heads.mean() > 0.9
