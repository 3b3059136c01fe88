"""Random gate patterns through the whole export: every link holds, the graph is as fused and as small as planned."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from finegates_export.gates.adapter import LoraSettings
from finegates_export.onnx.inspect import constant_matrix
from finegates_export.onnx.quantize import load_graph
from finegates_export.plan import ShrinkPlan
from tests.export.compare import TOLERANCE
from tests.export.conftest import bundle_info
from tests.tiny import LORA

KINDS = ("qk", "vo", "ffn", "heads", "residual")
DORA = LoraSettings(rank=2, alpha=3.0, dora=True)


def random_case(seed):
    """A layout, an adapter and closed shares of every kind."""
    generator = np.random.default_rng(seed)
    shares = {kind: round(float(generator.choice([0.0, 0.2, 0.5, 0.8])), 1) for kind in KINDS}
    return ("matrix", "coupled")[seed % 2], (None, LORA, DORA)[seed % 3], shares


CASES = {
    "random 0": random_case(0),
    "random 1": random_case(1),
    "random 2": random_case(2),
    "one head left, no Q/K dim": ("coupled", None, {"heads": 0.75, "qk": 1.0}),
    "no attention": ("matrix", LORA, {"vo": 1.0}),
    "no feed-forward network": ("coupled", LORA, {"ffn": 1.0, "qk": 0.4}),
    "no layer at all": ("matrix", None, {"qk": 1.0, "vo": 1.0, "ffn": 1.0}),
    "nothing": ("none", LORA, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_any_gate_pattern_is_exported_exactly_fused_and_as_small_as_planned(workshop, case):
    layout, lora, shares = CASES[case]
    bundle = workshop.bundle(workshop.run(layout, lora, gates=shares))
    report = bundle_info(bundle)["report"]
    worst = {link["name"]: max(link["relative"], link["hidden_relative"] or 0.0) for link in report["links"]}
    sys.stdout.write(f"{case}: at most {max(worst.values()):.1e} of the scale, in {max(worst, key=worst.get)}\n")
    assert list(worst) == ["folded", "shrunk torch", "ONNX, unoptimized", "ONNX, ort-cpu", "ONNX, as delivered"]
    assert all(link["exact"] and link["agreement"] == 1.0 for link in report["links"])
    assert max(worst.values()) < TOLERANCE
    assert worst["ONNX, ort-cpu"] > 0.0 or case == "no layer at all"  # two implementations that share no kernel

    plan = ShrinkPlan.from_json(report["plan"])
    assert report["fused"]["attention"] == plan.attention_layers
    assert report["fused"]["normalization"] >= plan.attention_layers + plan.feed_forward_layers
    assert report["fused"]["activation"] == plan.feed_forward_layers
    assert counted_weights(bundle / "model.onnx") == plan.kept_weights
    assert (plan.attention_layers, plan.feed_forward_layers) == {
        "no attention": (0, 2), "no feed-forward network": (2, 0), "no layer at all": (0, 0),
    }.get(case, (2, 2))  # fmt: skip
    assert (plan.removed > 0) == (case != "nothing")


def counted_weights(file):
    """Elements of the constant matrices of the delivered graph, without the head's two."""
    matrices = {}
    for node in load_graph(file).graph:
        matrix = constant_matrix(node)
        if matrix is not None:
            matrices[matrix.name] = matrix.const_value.size
    return sum(matrices.values()) - 32 * 32 - 3 * 32  # pooler and classifier
