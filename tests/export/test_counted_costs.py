"""What a decoder's widths cost is counted: bytes of a token and operations of a prompt, as the planner counts them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from finegates_export.common.shapes import Shape
from finegates_export.costs.counted_costs import BYTES, counted_costs
from finegates_export.costs.model_widths import ModelWidths
from finegates_export.costs.speed_probe import SpeedProbe
from finegates_export.costs.timing.model_worker import ModelSpec, _inputs
from finegates_export.costs.timing.sessions import resting_session
from finegates_export.costs.timing.timer import Budget
from finegates_export.graphs.inspect import inspect_file
from finegates_export.pruning.plan import ShrinkPlan
from finegates_export.sources.assemble import assemble, base_of
from finegates_export.sources.base import find_base
from finegates_export.sources.run_folder import read_run
from tests.export.conftest import bundle_info
from tests.tiers import tiered

SHAPE = Shape(2, 16)
TASK = "text-generation"


@pytest.fixture(scope="module", params=tiered(["llama", "qwen3", "gpt2"], default=("gpt2",)))
def run(request, workshop):
    return workshop.run("coupled", task=TASK, variant=request.param, generator=True)


def masks(run):
    """The base's structure, and what a run leaves open of it."""
    read = read_run(run)
    assembled = assemble(read, base_of(read))
    products = assembled.gated.gates.unit_products(assembled.gated.gates.values())
    structure = assembled.family.structure(assembled.config)
    return structure, {key: (values > 0).detach().numpy() for key, values in products.items()}


def test_a_plan_costs_what_it_reads_and_what_it_computes(run, workshop):
    plan = ShrinkPlan.from_json(bundle_info(workshop.bundle(run))["report"]["plan"])
    structure, keep = masks(run)
    widths = ModelWidths.of(keep, structure)
    cached = sum(heads * (qk + vo) for heads, qk, vo in zip(widths.heads, widths.qk, widths.vo, strict=True))
    read = widths.layers_ms(counted_costs(structure, SHAPE, "decode"))
    assert read == pytest.approx(BYTES * (plan.kept_weights + 2 * 16 * cached))
    computed = widths.layers_ms(counted_costs(structure, SHAPE, "prefill"))
    assert computed == pytest.approx(plan.flops(2, 16))
    other = {key: mask & (np.arange(len(mask)) > 0) for key, mask in keep.items()}
    assert ModelWidths.of(other, structure).layers_ms(counted_costs(structure, SHAPE, "prefill")) < computed


def test_layers_of_one_form_share_their_costs(run):
    structure, _ = masks(run)
    costs = counted_costs(structure, SHAPE, "decode")
    assert costs[0] is costs[1]
    assert costs[0].times(3.0).attention_ms(1, 2, 3) == pytest.approx(3 * costs[0].attention_ms(1, 2, 3))


@pytest.mark.parametrize(("phase", "past", "new"), [("prefill", 0, 16), ("decode", 16, 1)])
def test_a_probe_writes_the_graph_of_an_export_and_feeds_its_cache(run, workshop, tmp_path, phase, past, new):
    delivered = workshop.bundle(run) / "model.onnx"
    _, keep = masks(run)
    with SpeedProbe(find_base(read_run(run).info.base_id), TASK, (), shape=SHAPE, phase=phase, threads=1) as probe:
        probe.write(keep, tmp_path / "pruned.onnx")
        assert (probe.past, probe.new) == (past, new)
    written, given = (onnx.load(path).graph for path in (tmp_path / "pruned.onnx", delivered))
    assert [node.op_type for node in written.node] == [node.op_type for node in given.node]
    assert [str(value) for value in written.input] == [str(value) for value in given.input]
    assert inspect_file(tmp_path / "pruned.onnx").parameters == inspect_file(delivered).parameters
    session = resting_session(str(delivered), 1)
    spec = ModelSpec({}, 2, new, 64, 1, 0, Budget(1, 0.0, 0), past=past)
    inputs = _inputs(session, spec)
    assert inputs["attention_mask"].shape == (2, past + new)
    assert inputs["position_ids"].tolist() == [list(range(past, past + new))] * 2
    outputs = dict(zip((one.name for one in session.get_outputs()), session.run(None, inputs), strict=True))
    assert outputs["logits"].shape[:2] == (2, new)
    assert outputs["present.0.key"].shape[2] == past + new


def test_milliseconds_make_both_measured_models_come_out_right(run, monkeypatch):
    structure, _ = masks(run)
    with SpeedProbe(find_base(read_run(run).info.base_id), TASK, (), shape=SHAPE, phase="decode") as probe:
        process = {"unpruned": [8_000_000] * 20, "pruned": [2_000_000] * 20}
        monkeypatch.setattr(probe, "_measured", lambda _keep, **_how: [process])
        costs = probe.timed(counted_costs(structure, SHAPE, "decode"))
        anchor = probe.anchor(costs)
        whole, least = probe._halves(costs)
    assert anchor.factor == pytest.approx(1.0)
    assert anchor.milliseconds(whole) == pytest.approx(8.0)
    assert anchor.milliseconds(least) == pytest.approx(2.0)
    assert 0 < anchor.rest < 2.0
