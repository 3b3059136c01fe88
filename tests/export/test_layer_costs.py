"""What the halves of layers cost by their widths: the graphs that are measured, the grids made of them, their files."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
from transformers import BertConfig

from finegates_export.common.shapes import Shape
from finegates_export.costs.blocks.layer_shapes import COPIES, PACKING_STYLES, AttentionShape, FeedForwardShape
from finegates_export.costs.blocks.ort_cpu import block_graph
from finegates_export.costs.grid import Grid
from finegates_export.costs.layer_costs import LayerCosts, measure_layer_costs
from finegates_export.costs.layer_forms import layer_forms
from finegates_export.costs.timing.block_times import Precision, Question
from finegates_export.errors import InputError, UnsupportedError
from finegates_export.families import family_of
from finegates_export.families.bert import Bert
from finegates_export.graphs.inspect import TAKEN_APART
from finegates_export.graphs.passes.graph_pass import run_passes
from finegates_export.graphs.passes.packing import packs_well
from finegates_export.graphs.products import load_graph
from finegates_export.graphs.saving import save_graph
from finegates_export.graphs.targets import ort_cpu
from finegates_export.graphs.trace import write_graph
from tests.export.test_families import gated_tiny, shrunk
from tests.export.test_fusions import RAGGED
from tests.tiers import tiered

MS = 1_000_000
SHAPE = Shape(2, 8)
NORM = 0.5
HALF = AttentionShape(2, 8, hidden=32, all_heads=4, head_dim=8, heads=4, qk=8, vo=8)
NETWORK = FeedForwardShape(2, 8, hidden=32, neurons=64)
WIDE = {"hidden_size": 96, "num_attention_heads": 2}
"""Heads of 48 dims: three strips."""
COUNTED = ("MatMul", "Attention", "MultiHeadAttention", "BiasGelu", "Gelu", "GatherElements", "Split")
"""Operators of the layers alone."""


class Formula:
    """Answers questions from a formula, in milliseconds, and counts them."""

    def __init__(self, changed=None):
        self.changed = changed or {}
        self.questions: list[Question] = []

    def __call__(self, question):
        self.questions.append(question)
        return [[self.milliseconds(shape) * MS] * 4 for shape in question.shapes]

    def milliseconds(self, shape):
        if shape in self.changed:
            return self.changed[shape]
        if isinstance(shape, FeedForwardShape):
            return NORM + shape.neurons / 8
        return NORM + (shape.heads * (0.2 + shape.qk / 10 + shape.vo / 5) * (0.5 if shape.packed else 1.0))


def nobody(question):
    raise AssertionError(f"{len(question.shapes)} shapes were to be in the file")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FINEGATES_CACHE", str(tmp_path / "cache"))


def config(**changes):
    return BertConfig(
        **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, **changes}
    )


def costs_of(measurer, family=None, **changes) -> tuple[LayerCosts, ...]:
    return measure_layer_costs(family or Bert(), config(**changes), SHAPE, threads=2, measurer=measurer)


# grids


def test_knots_hold_what_was_measured_less_the_norm() -> None:
    costs = costs_of(Formula())[0]
    assert costs.attention.axes[0] == (0, 1, 2, 4)
    assert costs.attention.axes[1] == costs.attention.axes[2] == (1, 4, 5, 8)
    assert costs.feed_forward.axes == ((0, 9, 25, 41, 57, 64),)
    assert costs.attention_ms(2, 5, 4) == pytest.approx(2 * (0.2 + 0.5 + 0.8))
    assert costs.feed_forward_ms(64) == pytest.approx(8.0)
    assert costs.feed_forward_ms([25, 41]) == pytest.approx([25 / 8, 41 / 8])


def test_what_q_and_k_and_what_v_and_o_cost_adds_up() -> None:
    measurer = Formula()
    costs = costs_of(measurer)[0]
    asked = {(shape.qk, shape.vo) for shape in measurer.questions[0].shapes if isinstance(shape, AttentionShape)}
    assert (1, 8) not in asked
    assert costs.attention_ms(4, 1, 8) == pytest.approx(4 * (0.2 + 0.1 + 1.6))


def test_between_knots_it_is_linear_and_beyond_them_it_is_flat() -> None:
    costs = costs_of(Formula())[0]
    assert costs.attention_ms(3, 3, 6) == pytest.approx(3 * (0.2 + 0.3 + 1.2))
    assert costs.feed_forward_ms(40) == pytest.approx(5.0)
    assert costs.feed_forward_ms(1000) == costs.feed_forward_ms(64)
    assert costs.attention_ms(4, 0.1, 8) == costs.attention_ms(4, 1, 8)


def test_an_empty_half_costs_nothing_whatever_its_widths() -> None:
    costs = costs_of(Formula())[0]
    assert (costs.attention_ms(0, [0, 1, 8], [0, 4, 8]) == 0.0).all()
    assert costs.feed_forward_ms(0) == 0.0
    assert costs.attention_ms(1, 1, 1) > 0.0


def test_packed_attention_counts_where_both_widths_are_equal_and_fill_their_strips() -> None:
    costs = costs_of(Formula(), **WIDE)[0]
    assert costs.packed.axes == ((0, 1, 2), (16, 32, 48))
    apart, packed = 2 * (0.2 + 4.8 + 9.6), 2 * (0.2 + 3.2 + 6.4) / 2
    assert costs.attention_ms(2, [48, 32], [47.999, 32]) == pytest.approx([apart, packed], rel=1e-3)
    assert costs.attention_ms(1, 20, 20) == costs.packed.at(1, 32), "a strip is paid as a whole"
    assert costs.attention_ms(2, 20, 20) == costs.packed.at(2, 32), "24 columns are wasted"
    assert costs.attention_ms(2, 12, 12) == costs.packed.at(2, 16)
    assert costs.attention_ms(2, 33, 33) == costs.packed.at(2, 48)
    assert costs.attention_ms(2, 16, 17) == costs.attention.at(2, 16, 17)
    rotary = replace(costs, packed=None)
    assert rotary.attention_ms(2, 32, 32) == costs.attention.at(2, 32, 32)
    narrow = costs_of(Formula())[0]
    assert narrow.attention_ms(4, 8, 8) == narrow.attention.at(4, 8, 8) == pytest.approx(4 * 2.6), "half of it is waste"


def test_a_wider_block_is_never_cheaper_for_noise() -> None:
    noisy = {replace(HALF, heads=2, qk=4, vo=5): 0.1, replace(NETWORK, neurons=41): 0.2}
    costs = costs_of(Formula(noisy))[0]
    for axis in range(3):
        assert (np.diff(costs.attention.milliseconds, axis=axis) >= 0).all()
    assert costs.attention.at(2, 4, 5) == costs.attention.at(2, 4, 4)
    assert costs.attention.at(2, 5, 5) == costs.attention.at(2, 5, 4) > costs.attention.at(2, 4, 4)
    assert costs.feed_forward_ms(41) == costs.feed_forward_ms(25)
    with pytest.raises(ValueError, match="must not fall"):
        Grid(((1, 2),), np.array([2.0, 1.0]))


def test_all_widths_are_asked_in_one_question_and_never_again() -> None:
    measurer = Formula()
    first = costs_of(measurer)
    assert len(measurer.questions) == 1
    again = costs_of(nobody)
    assert again[0].to_json() == first[0].to_json()
    other = Formula()
    measure_layer_costs(Bert(), config(), Shape(4, 8), threads=2, measurer=other)
    assert len(other.questions) == 1


def test_layers_of_one_form_share_a_table_and_others_have_their_own() -> None:
    class Uneven(Bert):
        def feed_forward(self, config, path):
            where = super().feed_forward(config, path)
            return replace(where, intermediate_size=32) if path.endswith(".1") else where

    alike = costs_of(Formula())
    assert alike[0] is alike[1]
    uneven = costs_of(Formula(), Uneven())
    assert [costs.whole_feed_forward.neurons for costs in uneven] == [64, 32]
    assert uneven[1].feed_forward.axes[0][-1] == 32


def test_an_activation_that_no_block_has_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="activation 'mish' cannot be measured"):
        costs_of(nobody, hidden_act="mish")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"heads": 5}, "heads: must lie in 0 to 4, got 5"),
        ({"qk": 0}, "qk: must lie in 1 to 8 while heads are kept, got 0"),
        ({"vo": 9}, "vo: must lie in 1 to 8 while heads are kept, got 9"),
        ({"style": "linear"}, "style: 'linear' is not one of"),
        ({"qk": 4, "packed": True}, "packed: needs Q/K and V of equal width, got 4 and 8"),
        ({"style": "rotary", "qk": 3}, "qk: must be even"),
        ({"style": "disentangled", "terms": 2}, "positions: must be positive with terms"),
    ],
)
def test_impossible_halves_are_refused(values, told) -> None:
    with pytest.raises(ValueError, match=told):
        replace(HALF, **values)


# files


def test_costs_go_to_a_file_and_back(tmp_path) -> None:
    costs = costs_of(Formula())[0]
    costs.save(tmp_path / "costs.json")
    found = LayerCosts.load(tmp_path / "costs.json")
    assert found.to_json() == costs.to_json()
    assert found.attention_ms(3, 5, 6) == costs.attention_ms(3, 5, 6)
    assert (found.shape, found.threads, found.target) == (SHAPE, 2, "ort-cpu")


@pytest.mark.parametrize("key", ["processor", "onnxruntime", "cores"])
def test_another_machine_s_costs_are_refused_by_name(key, tmp_path) -> None:
    path = tmp_path / "costs.json"
    costs_of(Formula())[0].save(path)
    content = json.loads(path.read_text())
    content["stamp"][key] = "another"
    path.write_text(json.dumps(content))
    with pytest.raises(
        InputError, match=rf"costs\.json holds costs of another machine \({key} 'another' instead of "
    ) as error:
        LayerCosts.load(path)
    assert "measure again" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda content: {**content, "schema": 99}, "has layer costs of schema 99, but this version reads 1"),
        (lambda _: [], "has layer costs of schema None"),
        (lambda content: {**content, "feed_forward": {"axes": [[0, 1]], "milliseconds": [1.0, 0.5]}}, "must not fall"),
        (lambda content: {name: value for name, value in content.items() if name != "attention"}, "'attention'"),
        (lambda content: {**content, "shape": "8by8"}, "is not a shape"),
    ],
)
def test_a_file_that_is_no_table_is_refused(damage, told, tmp_path) -> None:
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(damage(costs_of(Formula())[0].to_json())))
    with pytest.raises(InputError, match=told):
        LayerCosts.load(path)
    path.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        LayerCosts.load(path)


# graphs


def operators(nodes) -> Counter:
    return Counter(node.op_type for node in nodes if node.op_type in COUNTED)


def matrices(graph: onnx.GraphProto) -> Counter:
    """Products by the shape of their constant matrix."""
    sizes = {value.name: tuple(value.dims) for value in graph.initializer}
    products = [node for node in graph.node if node.op_type in ("MatMul", "Attention")]
    return Counter((node.op_type, sizes[node.input[1]]) for node in products if node.input[1] in sizes)


def blocks_of(plan, family, model_config) -> list:
    """The blocks that stand for the layers of a plan."""
    found = []
    for layer, (attention, network) in zip(plan.layers, layer_forms(family, model_config, SHAPE), strict=True):
        kept = layer.attention
        equal = kept.qk_width == kept.vo_width and attention.style in PACKING_STYLES
        packed = equal and bool(packs_well(len(kept.heads), kept.qk_width))
        widths = {"heads": len(kept.heads), "qk": kept.qk_width, "vo": kept.vo_width}
        found.append(replace(attention, **widths, packed=packed))
        found.append(replace(network, neurons=len(layer.feed_forward.neurons)))
    return found


@pytest.mark.parametrize(
    ("variant", "closed"),
    tiered(
        [
            ("bert", "as it was"),
            ("bert", "ragged"),
            ("mpnet", "ragged"),
            ("modernbert", "ragged"),
            ("deberta-v3", "ragged"),
        ],
        fast=1,
        default=[("mpnet", "ragged"), ("modernbert", "ragged"), ("deberta-v3", "ragged")],
    ),
)
def test_blocks_have_the_operators_and_matrices_of_a_real_export(variant, closed, workshop) -> None:
    gated, _ = gated_tiny(variant, "coupled", closed=RAGGED[closed])
    model, plan = shrunk(gated)
    family = family_of(model.config.model_type)
    names = family.input_names(model.config)
    path = workshop.make(
        f"plain {variant} {closed}.onnx",
        lambda file: save_graph(write_graph(model, family.encoder(model), names, 20), file),
    )
    real = fused_layers(load_graph(path))
    blocks = [onnx.load_from_string(block_graph(block)).graph for block in blocks_of(plan, family, model.config)]
    counted: Counter = sum((operators(block.node) for block in blocks), Counter())
    multiplied: Counter = sum((matrices(block) for block in blocks), Counter())
    assert {name: count / COPIES for name, count in counted.items()} == dict(operators(real.node))
    assert {what: count / COPIES for what, count in multiplied.items()} == dict(matrices(real))
    norms = [sum(node.name.endswith(TAKEN_APART) for node in graph.node) for graph in (real, *blocks)]
    assert norms[0] - sum(norms[1:]) / COPIES in (0, 1), "that of the embeddings may be one more"


def fused_layers(graph) -> onnx.GraphProto:
    """The fused graph up to the last hidden state."""
    import onnx_ir

    from finegates_export.graphs.saving import keep_outputs

    return onnx_ir.to_proto(keep_outputs(run_passes(graph, ort_cpu.passes({})), ("last_hidden_state",))).graph


def test_an_empty_half_is_a_constant_and_a_norm() -> None:
    for empty in (replace(HALF, heads=0), replace(NETWORK, neurons=0)):
        nodes = onnx.load_from_string(block_graph(empty)).graph.node
        kinds = Counter(node.op_type for node in nodes)
        assert kinds == {"Shape": COPIES, "Expand": COPIES, "Sum": COPIES, "LayerNormalization": COPIES, "Slice": 1}


def test_blocks_in_a_row_have_weights_of_their_own_and_read_each_other() -> None:
    graph = onnx.load_from_string(block_graph(NETWORK)).graph
    weights = [value for value in graph.initializer if value.name.endswith("up.weight")]
    assert len(weights) == COPIES == 2
    assert weights[0].raw_data != weights[1].raw_data
    norms = [node for node in graph.node if node.op_type == "LayerNormalization"]
    second = next(node for node in graph.node if node.name == "layer1.up")
    assert second.input[0] == norms[0].output[0]


# the process


def test_a_real_process_finds_finite_costs_and_the_cache_keeps_them(monkeypatch) -> None:
    monkeypatch.setattr("finegates_export.costs.cost_table.KEPT_HALF_WIDTH", 100.0)  # on a machine that tests busily
    quick = Precision(half_width=1.0, seconds=0.0)
    measured = measure_layer_costs(Bert(), config(), Shape(16, 32), threads=1, precision=quick)[0]
    for grid in (measured.attention, measured.packed, measured.feed_forward):
        assert np.isfinite(grid.milliseconds).all()
        assert grid.milliseconds.max() > 0.0
    again = measure_layer_costs(Bert(), config(), Shape(16, 32), threads=1, measurer=nobody)[0]
    assert again.to_json() == measured.to_json()
