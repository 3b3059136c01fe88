"""Graphs that hold blocks of one shape, the fresh process that times them, and the intervals of its rounds."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest

from finegates_export.costs.blocks.linear_shape import LinearShape
from finegates_export.costs.blocks.ort_cpu import block_graph
from finegates_export.costs.cost_table import CostTable
from finegates_export.costs.timing.block_times import Precision, Question, measure_blocks
from finegates_export.costs.timing.cost_worker import FIRST_ROUNDS, MOST_TURNS
from finegates_export.costs.timing.statistics import median_interval, ratio_interval
from finegates_export.errors import MeasurementError

ZEROS = LinearShape(64, 20, 30)
GATHERED = LinearShape(64, 15, 30, read_from=20)
SPREAD = LinearShape(64, 30, 15, write_to=20)
BOTH = LinearShape(6, 9, 7, read_from=12, write_to=11)
ACTIVATED = LinearShape(6, 9, 7, read_from=12, activation=True)
QUICK = Precision(half_width=0.02, seconds=0.0)

REPORT_MODULES = """
import sys
from finegates_export.costs.timing.cost_worker import main
main()
sys.stdout.write(" ".join({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FINEGATES_CACHE", str(tmp_path / "cache"))


def no_process(*arguments, **_):
    raise AssertionError(f"{arguments} was to be in the file")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"tokens": 0}, "tokens: must be positive, got 0"),
        ({"outputs": -1}, "outputs: must be positive, got -1"),
        ({"read_from": 19}, "read_from: must hold the 20 dims of the matrix, got 19"),
        ({"write_to": 29}, "write_to: must hold the 30 dims of the matrix, got 29"),
        ({"activation": True, "bias": False}, "activation: includes the bias"),
    ],
)
def test_impossible_shapes_are_refused(values, told) -> None:
    with pytest.raises(ValueError, match=told):
        LinearShape(**{"tokens": 64, "inputs": 20, "outputs": 30, **values})


def test_shapes_go_to_json_and_back() -> None:
    assert LinearShape.from_json(json.loads(json.dumps(SPREAD.to_json()))) == SPREAD != GATHERED


def full_outputs(shape) -> onnxruntime.InferenceSession:
    """The graph without the cut down to one number behind each linear."""
    model = onnx.load_from_string(block_graph(shape))
    ends = [node for node in model.graph.node if node.op_type == "Slice"]
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(node.input[0], 1, None) for node in ends)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("shape", [ZEROS, GATHERED, SPREAD, BOTH, ACTIVATED])
def test_every_linear_reads_and_writes_as_many_dims_as_its_shape_says(shape) -> None:
    session = full_outputs(shape)
    x_BSD = np.random.default_rng(0).standard_normal((2, 3, shape.width_in)).astype(np.float32)
    before = session.run(None, {"x": x_BSD})
    moved = [np.zeros((shape.width_in, shape.width_out), bool) for _ in before]
    for dim in range(shape.width_in):
        other_BSD = x_BSD.copy()
        other_BSD[..., dim] += 1.0
        for number, after in enumerate(session.run(None, {"x": other_BSD})):
            assert after.shape == (2, 3, shape.width_out)
            moved[number][dim] = (after != before[number]).all(axis=(0, 1))
    assert len(moved) == shape.copies > 1
    for reads_writes in moved:
        assert reads_writes.any(1).sum() == shape.inputs
        assert reads_writes.any(0).sum() == shape.outputs
    if shape.gathered:
        assert any((other != moved[0]).any() for other in moved[1:]), "each linear has closed dims of its own"


@pytest.mark.parametrize(
    ("shape", "matrix"), [(ZEROS, (20, 30)), (GATHERED, (15, 30)), (SPREAD, (30, 16)), (BOTH, (9, 8))]
)
def test_a_gathered_matrix_is_smaller(shape, matrix) -> None:
    graph = onnx.load_from_string(block_graph(shape)).graph
    sizes = {value.name: tuple(value.dims) for value in graph.initializer}
    assert [sizes[node.input[1]] for node in graph.node if node.op_type == "MatMul"] == [matrix] * shape.copies


def test_an_activation_is_fused_with_the_bias() -> None:
    graph = onnx.load_from_string(block_graph(LinearShape(6, 9, 7, activation=True))).graph
    operators = [node.op_type for node in graph.node]
    assert "BiasGelu" in operators
    assert "Add" not in operators


def test_huge_matrices_are_measured_alone() -> None:
    assert LinearShape(1, 16_384, 8_192).copies == 1
    assert LinearShape(1, 768, 3_072).copies == 4


# the process


def test_a_real_process_finds_finite_positive_costs_and_the_file_keeps_them(monkeypatch) -> None:
    monkeypatch.setattr("finegates_export.costs.cost_table.KEPT_HALF_WIDTH", 100.0)  # on a machine that tests busily
    costs = CostTable(1, precision=QUICK).milliseconds([ZEROS, SPREAD])
    assert set(costs) == {ZEROS, SPREAD}
    for cost in costs.values():
        assert 0.0 < cost.low <= cost.median <= cost.high < float("inf")
    # A graph that a busy machine let run faster is run several times in a round.
    rounds = sorted(cost.rounds for cost in costs.values())
    assert rounds[0] == FIRST_ROUNDS, "the first rounds are finished even without time"
    assert rounds[1] in range(FIRST_ROUNDS, FIRST_ROUNDS * MOST_TURNS + 1, FIRST_ROUNDS)
    monkeypatch.setattr(subprocess, "run", no_process)
    assert CostTable(1, precision=QUICK).milliseconds([ZEROS, SPREAD]) == costs


def test_a_real_comparison_runs_both_ways_in_the_same_rounds() -> None:
    question = Question((ZEROS, GATHERED), "ort-cpu", 1, QUICK, first=(0,), second=(1,))
    times = measure_blocks(question)
    assert [len(rounds) for rounds in times] == [16, 16]
    assert min(min(rounds) for rounds in times) > 0.0


def test_the_process_imports_neither_torch_nor_onnx(tmp_path) -> None:
    (tmp_path / "linear.onnx").write_bytes(block_graph(ZEROS))
    spec, result = tmp_path / "spec.json", tmp_path / "result.json"
    graphs = {"graphs": [str(tmp_path / "linear.onnx")], "inputs": [{"x": [1, 64, 20]}], "threads": 1, "seconds": 0.0}
    spec.write_text(json.dumps(graphs))
    command = [sys.executable, "-c", REPORT_MODULES, str(spec), str(result)]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "onnxruntime" in modules
    assert not {"torch", "transformers", "onnx", "onnx_ir"} & set(modules)


def test_when_the_process_dies_the_error_says_how_on_one_line(monkeypatch) -> None:
    monkeypatch.setattr("finegates_export.costs.blocks.ort_cpu.block_graph", lambda shape, seed: b"no graph")
    with pytest.raises(MeasurementError, match=r"timed 1 blocks of up to 64 tokens ended with status 1 \(") as error:
        CostTable(1, precision=QUICK).milliseconds([ZEROS])
    assert "\n" not in str(error.value)


# the intervals


def test_intervals_hold_the_median_and_narrow_with_more_rounds() -> None:
    few, many = (median_interval([8.0, 9.0, 10.0, 11.0, 12.0] * times) for times in (2, 200))
    assert few.low < few.median == many.median == 10.0 < few.high
    assert many.relative_half_width < few.relative_half_width
    pair = ratio_interval([[10.0, 20.0], [5.0, 10.0]], numerator=[1, 1], denominator=[0])
    assert (pair.median, pair.low, pair.high) == (1.0, 1.0, 1.0)
