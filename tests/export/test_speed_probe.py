"""The probe: which graphs it writes, what it asks a second time, and what it makes of the times."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from finegates_export.common.shapes import Shape
from finegates_export.costs.model_widths import ModelWidths
from finegates_export.costs.speed_probe import HALF_WIDTH, ROUNDS, Anchor, SpeedProbe
from finegates_export.errors import InputError
from finegates_export.gates.gated_model import GatedModel
from finegates_export.pruning.fold import fold
from finegates_export.pruning.planner import make_plan
from finegates_export.pruning.widths import Widths
from finegates_export.sources.base import find_base
from finegates_export.sources.run_folder import read_run
from tests.export.compare import structure_of
from tests.tiny import FRACTIONS, random_gates
from tests.tiny_models import tiny_model

LABELS = ("bad", "medium", "nice")
SHAPE = Shape(1, 4)
MS = 1_000_000


EMPTY = 1000
"""Milliseconds of a model without layers, by the stand-ins below."""


class Clock:
    """Takes a graph's time to be the number in its file, in milliseconds, and counts what it is asked."""

    def __init__(self):
        self.specs, self.times = [], []

    def __call__(self, spec, _folder):
        self.specs.append(spec)
        self.times.append({name: int(Path(path).read_text()) for name, path in spec.graphs.items()})
        return {name: [time * MS] * 4 for name, time in self.times[-1].items()}


def weights(heads, qk, vo, neurons) -> int:
    """Of the tiny base's only layer."""
    return 2 * 32 * (heads * (qk + vo) + neurons)


class PerWeight:
    """Costs a layer's halves at a tenth of a millisecond a weight."""

    def attention_ms(self, heads, qk, vo):
        return 0.1 * weights(heads, qk, vo, 0)

    def feed_forward_ms(self, neurons):
        return 0.1 * weights(0, 0, 0, neurons)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """Stands in for writing and for timing; `clock.written` lists the files."""
    clock = Clock()
    clock.written = []

    def write(probe, keep, path):
        kept = masks() if keep is None else keep
        widths = ModelWidths.of(kept, probe.structure)
        path.write_text(str(EMPTY + weights(widths.heads[0], widths.qk[0], widths.vo[0], widths.neurons[0])))
        clock.written.append(path.stem)

    monkeypatch.setattr(SpeedProbe, "write", write)
    monkeypatch.setattr("finegates_export.costs.speed_probe.time_models", clock)
    return clock


@pytest.fixture
def probe(base):
    brief = {"threads": 1, "seconds": 0.0, "processes": 1}
    with SpeedProbe(find_base(str(base)), "classification", LABELS, shape=SHAPE, **brief) as probe:
        yield probe


def masks(*, heads=4, qk=8, vo=8, neurons=96, first=True):
    """Masks over the units of the tiny base's only layer: the first ones stay, or the last ones."""
    keep = {(0, "ffn"): np.arange(96) < neurons}
    for kind, width in (("qk", qk), ("vo", vo)):
        keep_hd = np.zeros((4, 8), bool)
        keep_hd[:heads, :width] = True
        keep[0, kind] = keep_hd.reshape(-1)
    return keep if first else {key: mask[::-1].copy() for key, mask in keep.items()}


# the probe


def test_it_times_a_model_against_the_unpruned_one(probe, clock) -> None:
    whole, half = probe.speedup(masks()), probe.speedup(masks(heads=2, neurons=40))
    assert (whole.median, whole.low, whole.high) == (1.0, 1.0, 1.0)
    assert half.median == pytest.approx((EMPTY + weights(4, 8, 8, 96)) / (EMPTY + weights(2, 8, 8, 40)))
    assert half.median > 1.5
    spec = clock.specs[1]
    assert (spec.batch, spec.sequence, spec.threads, spec.reference) == (1, 4, 1, "")


def test_the_same_widths_are_answered_from_memory_and_others_are_not(probe, clock) -> None:
    once = probe.speedup(masks(heads=3, qk=5, vo=6, neurons=30))
    assert clock.written == ["unpruned", "pruned"]
    assert probe.speedup(masks(heads=3, qk=5, vo=6, neurons=30, first=False)) == once
    assert len(clock.specs) == 1
    assert clock.written == ["unpruned", "pruned"]
    assert probe.speedup(masks(heads=3, qk=5, vo=6, neurons=29)) != once
    assert len(clock.specs) == 2
    assert clock.written == ["unpruned", "pruned", "pruned"], "the unpruned graph is kept"
    assert probe.speedup(masks(heads=3, qk=5, vo=6, neurons=30), anew=True) == once
    assert len(clock.specs) == 3, "asked anew, it measures"


def test_processes_go_on_until_they_agree_or_time_is_over(base, monkeypatch) -> None:
    answers = []

    def clock(spec, _folder):
        assert spec.seed == len(asked)
        asked.append(spec)
        return {"unpruned": [4 * MS] * 8, "pruned": [answers.pop(0) * MS] * 8}

    monkeypatch.setattr(SpeedProbe, "write", lambda *_: None)
    monkeypatch.setattr("finegates_export.costs.speed_probe.time_models", clock)
    with SpeedProbe(find_base(str(base)), "classification", LABELS, shape=SHAPE, processes=3) as probe:
        asked, answers[:] = [], [2.0] * 9
        assert probe.speedup(masks(neurons=8)).median == 2.0
        assert len(asked) == 3, "processes that agree are not asked again"
        asked, answers[:] = [], [1.9, 2.2, 2.0, *[2.0] * 200]
        found = probe.speedup(masks(neurons=9))
        assert found.rounds == 8 * len(asked) > 24
        assert found.low < 2.0 < found.high
        assert found.relative_half_width <= HALF_WIDTH
    with SpeedProbe(find_base(str(base)), "classification", LABELS, shape=SHAPE, processes=3, seconds=0.0) as hurried:
        asked, answers[:] = [], [1.0, 3.0, 2.0, 2.0]
        assert hurried.speedup(masks(neurons=8)).relative_half_width > HALF_WIDTH
        assert len(asked) == 3, "and not for ever"


def test_the_rest_is_what_a_model_without_layers_takes(probe, clock) -> None:
    anchor = probe.anchor([PerWeight()])
    assert anchor.unpruned == probe.unpruned_milliseconds() == EMPTY + weights(4, 8, 8, 96)
    assert anchor.rest == pytest.approx(EMPTY + weights(1, 1, 1, 0) - 0.1 * weights(1, 1, 1, 0))
    assert anchor.rest == probe.rest_milliseconds([PerWeight()])
    assert anchor.speedup(0.1 * weights(4, 8, 8, 96)) == pytest.approx(1.0)
    assert anchor.factor == pytest.approx((anchor.unpruned - anchor.rest) / (0.1 * weights(4, 8, 8, 96))) != 1.0
    assert len(clock.specs) == 1, "one comparison serves all three"


def test_an_anchor_knows_the_budget_of_a_speedup() -> None:
    anchor = Anchor(unpruned=100.0, rest=20.0, factor=2.0)
    assert anchor.milliseconds(15.0) == 50.0
    assert anchor.layers_ms_for(2.0) == 15.0
    assert anchor.speedup(anchor.layers_ms_for(3.0)) == pytest.approx(3.0)
    assert anchor.layers_ms_for(6.0) < 0.0, "out of reach"


def test_a_shape_longer_than_the_model_takes_is_refused(base) -> None:
    with pytest.raises(InputError, match=r"1x65 does not fit .* have 64 tokens"):
        SpeedProbe(find_base(str(base)), "classification", LABELS, shape=Shape(1, 65))


def test_nothing_is_left_behind(base, clock) -> None:
    with SpeedProbe(find_base(str(base)), "classification", LABELS, shape=SHAPE) as probe:
        probe.speedup(masks(neurons=8))
        folder = Path(clock.specs[0].graphs["unpruned"]).parent
        assert folder.is_dir()
    assert not folder.exists()


@pytest.mark.slow
def test_a_real_process_times_what_was_written(probe) -> None:
    found = probe.speedup(masks(heads=1, qk=1, vo=1, neurons=0))
    assert 0.0 < found.low <= found.median <= found.high < float("inf")
    assert found.rounds == ROUNDS, "they are finished even without time"


@pytest.mark.slow
def test_its_graph_is_the_one_that_an_export_delivers(workshop, tmp_path) -> None:
    run = read_run(workshop.run("coupled"))
    delivered = onnx.load(workshop.bundle(run.folder) / "model.onnx")
    base = find_base(run.info.base_id)
    gated = GatedModel(base.load(run.info.task, run.info.labels), base.family().structure(base.config()), "coupled")
    gated.gates.load_vectors(run.gates)
    products = gated.gates.unit_products(gated.gates.values())
    keep = {key: (values > 0).detach().numpy() for key, values in products.items()}
    with SpeedProbe(base, run.info.task, run.info.labels, shape=SHAPE) as probe:
        probe.write(keep, tmp_path / "pruned.onnx")
    assert anatomy(onnx.load(tmp_path / "pruned.onnx")) == anatomy(delivered)
    narrower = {**keep, (0, "ffn"): keep[0, "ffn"] & (np.arange(len(keep[0, "ffn"])) > 8)}
    with SpeedProbe(base, run.info.task, run.info.labels, shape=SHAPE) as probe:
        probe.write(narrower, tmp_path / "narrower.onnx")
    assert anatomy(onnx.load(tmp_path / "narrower.onnx")) != anatomy(delivered)


def anatomy(model: onnx.ModelProto) -> tuple[list[str], Counter, list[str]]:
    """Everything that time depends on."""
    sizes = Counter(tuple(value.dims) for value in model.graph.initializer)
    return [node.op_type for node in model.graph.node], sizes, [value.name for value in model.graph.output]


# widths


@pytest.mark.parametrize("widths", [Widths(), Widths(head_multiple=4, ffn_multiple=16)], ids=["any", "multiples"])
@pytest.mark.parametrize("variant", ["bert", "modernbert", "deberta-own"])
def test_widths_of_masks_are_those_that_the_planner_finds(variant, widths) -> None:
    model = tiny_model(variant)
    structure = structure_of(model)
    vectors = random_gates(structure, "coupled", {**FRACTIONS, "heads": 0.5, "qk": 0.6}, seed=4)
    gated = GatedModel(model, structure, "coupled").eval()
    gated.gates.load_vectors(vectors)
    products = gated.gates.unit_products(gated.gates.values())
    keep = {key: (values > 0).detach().numpy() for key, values in products.items()}
    gated.gates.settle({key: torch.from_numpy(mask) for key, mask in keep.items()})
    plan = make_plan(fold(gated), structure, widths)
    found = ModelWidths.of(keep, structure, widths)
    assert found.heads == tuple(len(layer.attention.heads) for layer in plan.layers)
    assert found.qk == tuple(layer.attention.qk_width for layer in plan.layers)
    assert found.vo == tuple(layer.attention.vo_width for layer in plan.layers)
    assert found.neurons == tuple(len(layer.feed_forward.neurons) for layer in plan.layers)
    assert 0 < min(found.heads) < 4
    closed = {key: np.zeros_like(mask) for key, mask in keep.items()}
    assert ModelWidths.of(closed, structure, widths) == ModelWidths((0, 0), (0, 0), (0, 0), (0, 0))


def test_what_layers_cost_is_the_sum_of_their_halves() -> None:
    widths = ModelWidths((2, 0), (8, 0), (4, 0), (10, 0))
    assert widths.layers_ms([PerWeight()] * 2) == pytest.approx(0.1 * weights(2, 8, 4, 10))
