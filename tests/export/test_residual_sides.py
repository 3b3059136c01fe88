"""Closed dims on the residual side: which linears have them, who decides, and that either way is exact."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from finegates_export import ExportOptions, export
from finegates_export.costs.cost_table import CostTable
from finegates_export.costs.gather_judge import GatherJudge
from finegates_export.errors import ChainError
from finegates_export.graphs import trace
from finegates_export.graphs.inspect import constant_matrix
from finegates_export.graphs.products import LINEAR, load_graph
from finegates_export.pruning.plan import ShrinkPlan
from finegates_export.pruning.residual_sides import ResidualUse, always, never, residual_plans
from tests.export.compare import TOLERANCE
from tests.export.conftest import bundle_info
from tests.export.test_families import gated_tiny, shrunk, structure_of
from tests.tiny import LORA

CLOSED = {"residual": 0.3, "ffn": 0.3}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FINEGATES_CACHE", str(tmp_path))


def planned(variant, judge, layout="matrix"):
    gated, _ = gated_tiny(variant, layout, closed=CLOSED)
    model, plan = shrunk(gated)
    return dataclasses.replace(plan, residual=residual_plans(model, structure_of(model), judge)), model


def test_every_linear_with_closed_dims_is_in_the_plan_with_the_reason():
    plan, model = planned("bert", never)
    assert len(plan.residual) == 12
    assert {side.side for side in plan.residual if "dense" not in side.linear} == {"reads"}
    for side in plan.residual:
        weight = model.get_submodule(side.linear).weight.detach().numpy()
        used = (weight != 0).any(0 if side.side == "reads" else 1)
        assert side.dims == tuple(np.flatnonzero(used))
        assert len(side.dims) < 32
        assert f"{side.linear} {side.side} {len(side.dims)} of 32 dims: zeros stay" in str(plan)
    assert ShrinkPlan.from_json(plan.to_json()) == plan


def test_the_coupled_layout_has_none():
    assert planned("bert", always, "coupled")[0].residual == ()


def test_a_linear_stored_fused_is_there_once_and_deberta_keeps_its_reads_whole():
    fused = [side.linear for side in planned("modernbert", always)[0].residual]
    assert len(fused) == len(set(fused)) == 8
    apart = [side.linear for side in planned("llama", always)[0].residual]
    assert len(apart) == len(set(apart)) == 14, "the factor is a linear of its own"
    shared = {side.linear.rpartition(".")[2] for side in planned("deberta-v3", always)[0].residual}
    assert "query_proj" not in shared
    assert "dense" in shared


@pytest.mark.slow
def test_gathers_take_weights_out_and_nothing_else_changes(workshop):
    run = workshop.run("matrix", LORA, gates=CLOSED)
    zeros, gathered = (bundle_info(workshop.bundle(run, gathers=how))["report"] for how in ("never", "always"))
    plans = [ShrinkPlan.from_json(report["plan"]) for report in (zeros, gathered)]
    assert plans[1].kept_weights < plans[0].kept_weights
    saved = sum(side.saved_weights for side in plans[1].residual)
    assert plans[0].kept_weights - plans[1].kept_weights == saved > 0
    assert max(link["relative"] for link in gathered["links"]) < TOLERANCE
    assert gathered["fused"] == zeros["fused"]
    graph = load_graph(workshop.bundle(run, gathers="always") / "model.onnx").graph
    assert sum(node.op_type == "GatherElements" for node in graph) == len(plans[1].residual) == 12
    largest = max(constant_matrix(node).const_value.size for node in graph if constant_matrix(node) is not None)
    assert largest < 64 * 32


@pytest.mark.slow
def test_marks_that_changed_places_do_not_pass_the_chain(workshop, tmp_path, monkeypatch):
    """Each linear would be gathered by the other's dims."""
    write = trace.write_graph

    def swapped(*given, **named):
        graph = write(*given, **named)
        nodes = {node.metadata_props[LINEAR]: node for node in graph.graph if LINEAR in node.metadata_props}
        one, other = (f"bert.encoder.layer.{layer}.intermediate.dense" for layer in (0, 1))
        nodes[one].metadata_props[LINEAR], nodes[other].metadata_props[LINEAR] = other, one
        return graph

    monkeypatch.setattr(trace, "write_graph", swapped)
    run = workshop.run("matrix", LORA, gates=CLOSED)
    with pytest.raises(ChainError, match=r"differs from the gated model|linear weights, the plan says"):
        export(ExportOptions(ckpt=run, out=tmp_path / "b", gathers="always", threads=1))
    assert not (tmp_path / "b").exists()


def table(ratio, asked):
    """A cost table whose measurements are given: every way with a gather takes `ratio` of the time."""

    def measurer(question):
        asked.append(question)
        times = [[1000.0] * 20 for _ in question.shapes]
        for number in question.second:
            times[number] = [1000.0 * ratio / len(question.second)] * 20
        return times

    return CostTable(threads=1, measurer=measurer)


@pytest.mark.parametrize(("ratio", "gathered"), [(0.8, True), (1.2, False)])
def test_the_judge_follows_the_table(ratio, gathered):
    asked = []
    plan, _ = planned("bert", GatherJudge(table(ratio, asked), tokens=256))
    assert {side.gathered for side in plan.residual} == {gathered}
    assert all(f"{ratio:.2f} of the time" in side.why and "at 256 tokens" in side.why for side in plan.residual)
    assert all(shape.tokens == 256 for question in asked for shape in question.shapes)


def test_linears_that_read_one_tensor_are_judged_together_against_one_product():
    asked = []
    uses = [ResidualUse(name, "reads", 96, tuple(range(60)), 48, activated=False) for name in "qkv"]
    GatherJudge(table(0.9, asked), tokens=64)(uses)
    (question,) = asked
    whole, narrow = (question.shapes[number] for number in (question.first[0], question.second[0]))
    assert (whole.inputs, whole.outputs) == (96, 3 * 48)
    assert len(question.first) == 1
    assert len(question.second) == 3
    assert (narrow.inputs, narrow.read_from) == (60, 96)


def test_a_single_closed_dim_is_not_worth_a_measurement():
    asked = []
    use = ResidualUse("up", "reads", 768, tuple(range(760)), 3072, activated=True)
    assert GatherJudge(table(0.5, asked), tokens=64)([use]) == (
        False, "zeros stay: fewer than one in 48 dims is closed",
    )  # fmt: skip
    assert asked == []
