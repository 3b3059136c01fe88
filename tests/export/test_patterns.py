"""Gate patterns through the whole export: every link holds, the graph is as fused and as small as planned.

The random ones walk through families, tasks, layouts and adapters (`tests/patterns`, where `make test-patterns` runs
many more); the named ones are the corners.
"""

from __future__ import annotations

import sys

import pytest

from finegates_export.common.tasks import TASKS
from finegates_export.graphs.inspect import constant_matrix
from finegates_export.graphs.products import load_graph
from finegates_export.pruning.plan import ShrinkPlan
from tests.export.compare import TOLERANCE
from tests.export.conftest import bundle_info
from tests.patterns.draw import ADAPTERS, DECODER_TASKS, draw_pattern
from tests.patterns.run import Outcome, run_pattern, summary
from tests.tiers import tiered
from tests.tiny import LORA
from tests.tiny_models import DECODER_VARIANTS, ENCODER_VARIANTS

RANDOM = 40
DECODERS = 10


CASES = {
    "one head left, no Q/K dim": ("coupled", None, {"heads": 0.75, "qk": 1.0}),
    "no attention": ("matrix", LORA, {"vo": 1.0}),
    "no feed-forward network": ("coupled", LORA, {"ffn": 1.0, "qk": 0.4}),
    "no layer at all": ("matrix", None, {"qk": 1.0, "vo": 1.0, "ffn": 1.0}),
    "nothing": ("none", LORA, {}),
}


@pytest.mark.parametrize("seed", tiered(range(RANDOM), fast=(1, 2), default=len(ENCODER_VARIANTS)))
def test_a_random_pattern_is_exported_exactly_and_fused(seed, tmp_path):
    pattern = draw_pattern(seed)
    outcome = run_pattern(pattern, tmp_path)
    sys.stdout.write(f"{outcome.line()}\n")
    assert outcome.worst < TOLERANCE
    attention, _ = outcome.fused.split()
    found, wanted = attention.split("/")
    assert found == wanted


@pytest.mark.parametrize("seed", tiered(range(DECODERS), default=4))
def test_a_random_pattern_of_a_decoder_is_exported_exactly(seed, tmp_path):
    outcome = run_pattern(draw_pattern(seed, decoders=True), tmp_path)
    sys.stdout.write(f"{outcome.line()}\n")
    assert outcome.worst < TOLERANCE


@pytest.mark.slow
def test_the_patterns_of_decoders_walk_through_every_family_task_layout_and_adapter():
    patterns = [draw_pattern(seed, decoders=True) for seed in range(100)]
    assert {pattern.variant for pattern in patterns[:DECODERS]} == set(DECODER_VARIANTS)
    assert {pattern.task for pattern in patterns} == set(DECODER_TASKS)
    assert {pattern.adapter for pattern in patterns} == set(ADAPTERS)
    assert {pattern.layout for pattern in patterns} == {"coupled", "matrix"}
    assert not any(pattern.width for pattern in patterns)


@pytest.mark.slow
def test_the_patterns_walk_through_every_family_task_layout_and_adapter():
    patterns = [draw_pattern(seed) for seed in range(200)]
    assert {pattern.variant for pattern in patterns[:RANDOM]} == set(ENCODER_VARIANTS)
    assert {pattern.task for pattern in patterns} == {
        name for name, task in TASKS.items() if not (task.generates or task.ranks)
    }
    assert {pattern.adapter for pattern in patterns} == set(ADAPTERS)
    ways = {("coupled", False, "never"), ("coupled", True, "never"), ("matrix", False, "never")}
    found = {(pattern.layout, pattern.width, pattern.gathers) for pattern in patterns}
    assert found == {*ways, ("matrix", False, "always")}
    assert draw_pattern(3) == patterns[3] != draw_pattern(15)


def test_the_summary_tells_a_pattern_that_does_not_hold():
    good = Outcome(4, "bert", 0.3, 2e-7, "folded", "1/1 1/1")
    bad = Outcome(9, "vit", 0.3, 3e-4, "ONNX, ort-cpu", "1/1 1/1")
    assert Outcome.read(bad.line()) == bad
    assert summary([good, bad]) == (
        "2 patterns, 1 under 1e-04 of the scale; worst 3.00e-04 (seed 9: vit, ONNX, ort-cpu)"
    )


@pytest.mark.parametrize("case", tiered(CASES, default=("no attention", "no layer at all")))
def test_any_gate_pattern_is_exported_exactly_fused_and_as_small_as_planned(workshop, case):
    layout, lora, shares = CASES[case]
    bundle = workshop.bundle(workshop.run(layout, lora, gates=shares))
    report = bundle_info(bundle)["report"]
    worst = {link["name"]: max(link["relative"], link["hidden_relative"] or 0.0) for link in report["links"]}
    sys.stdout.write(f"{case}: at most {max(worst.values()):.1e} of the scale, in {max(worst, key=worst.get)}\n")
    forms = ["folded", "shrunk torch", "ONNX, unoptimized", "ONNX, ort-cpu", "ONNX, as delivered"]
    assert list(worst) == [*forms, "texts, as delivered"]
    assert all(link["exact"] and link["agreement"] in (1.0, None) for link in report["links"])
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
