"""The gated product's benchmark: all ways compute it, every file is written, and its numbers fit together."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from finegates_export.costs.timing.fresh_process import run_fresh
from finegates_export.costs.timing.timer import Budget
from finegates_export.errors import MeasurementError

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import gated_product  # noqa: E402  # a script, not of a package
import product_worker  # noqa: E402

SPEC = product_worker.ProductSpec("torch", 5, 12, 7, (12, 4), 1, Budget(2, 0.0, 0), {})


@pytest.mark.slow
def test_it_writes_every_way_of_both_runtimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        "--out",
        str(tmp_path / "product"),
        "--sizes",
        "24x16",
        "--tokens",
        "6",
        "--closed",
        "0,0.5",
        "--rounds",
        "2",
    ]
    monkeypatch.setattr(sys, "argv", ["gated_product.py", *words, "--seconds", "0", "--threads", "1"])
    gated_product.main()
    assert {path.name for path in tmp_path.iterdir()} == {f"product.{end}" for end in ("json", "md", "png", "svg")}
    result = json.loads((tmp_path / "product.json").read_text())
    assert [(cell["runtime"], cell["rounds"]) for cell in result["cells"]] == [("onnxruntime", 2), ("torch", 2)]
    for cell in result["cells"]:
        assert [(row["way"], row["kept"]) for row in cell["rows"]] == [
            (way, kept) for kept in (1.0, 0.5) for way in product_worker.WAYS
        ]
        assert all(0 < row["low"] <= row["ratio"] <= row["high"] for row in cell["rows"])
        assert cell["full_ms"] > 0
    page = (tmp_path / "product.md").read_text()
    ratios = [f"{row['ratio']:.2f}" for cell in result["cells"] for row in cell["rows"][3:]]
    assert f"| 50% | 0.50 | {' | '.join(ratios)} |" in page
    assert "## 24x16, 6 tokens" in page
    assert "onnxruntime, gathered" in (tmp_path / "product.svg").read_text()


def test_selecting_in_the_graph_multiplies_the_open_dims_alone() -> None:
    import onnx
    import onnxruntime
    from onnx.numpy_helper import to_array

    from finegates_export.costs.blocks.linear_shape import LinearShape

    shape = LinearShape(SPEC.tokens, SPEC.inputs, SPEC.outputs, bias=False)
    graph = gated_product.selecting_graph(shape)
    weights = {value.name: to_array(value) for value in onnx.load_from_string(graph).graph.initializer}
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((1, SPEC.tokens, SPEC.inputs)).astype(np.float32)
    units = [product_worker.open_units(SPEC.inputs, 4, copy) for copy in range(product_worker.COPIES)]
    found = session.run(None, {"x": x, **{f"open{copy}": chosen for copy, chosen in enumerate(units)}})
    assert len({tuple(chosen) for chosen in units}) > 1
    for copy, chosen in enumerate(units):
        matrix = weights[f"product{copy}.weight"]
        assert found[copy].item() == pytest.approx(float(x[0, 0, chosen] @ matrix[chosen, 0]), abs=1e-5)
        assert found[copy].item() != pytest.approx(float(x[0, 0] @ matrix[:, 0]), abs=1e-3)


def test_every_torch_call_makes_four_products_of_the_whole_outputs() -> None:
    calls = product_worker.torch_calls(SPEC)
    ways = [product_worker.call_name(way, count) for count in (12, 4) for way in product_worker.WAYS]
    assert list(calls) == [product_worker.FULL, *ways]
    for call in calls.values():
        assert [tuple(product.shape) for product in call()] == [(5, 7)] * 4


def test_a_spec_goes_to_json_and_back() -> None:
    assert product_worker.ProductSpec.from_json(json.loads(json.dumps(SPEC.to_json()))) == SPEC


def test_a_script_that_fails_in_its_process_is_told_by_its_last_words(tmp_path: Path) -> None:
    spec = {**SPEC.to_json(), "open_dims": [99]}
    with pytest.raises(MeasurementError, match="timed nothing ended with status 1"):
        run_fresh(BENCHMARKS / "product_worker.py", {**spec, "budget": {}}, tmp_path, "timed nothing", "measure less")


@pytest.mark.parametrize(
    ("flag", "value", "told"), [("--sizes", "24by16", "24by16"), ("--rounds", "0", "rounds: must be positive, got 0")]
)
def test_bad_values_leave_with_one_line_and_no_files(flag, value, told, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gated_product.py", "--out", str(tmp_path / "product"), flag, value])
    with pytest.raises(SystemExit, match=told) as left:
        gated_product.main()
    assert "\n" not in str(left.value)
    assert list(tmp_path.iterdir()) == []
