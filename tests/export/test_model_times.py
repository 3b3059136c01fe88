"""The fresh process that times whole models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from finegates_export.common.shapes import Shape
from finegates_export.costs.timing.model_times import time_in_processes, time_models
from finegates_export.costs.timing.model_worker import ModelSpec
from finegates_export.costs.timing.timer import Budget, time_until
from finegates_export.errors import MeasurementError
from tests.export.conftest import Workshop

REPORT_MODULES = """
import sys
from finegates_export.costs.timing.model_worker import main
main()
sys.stdout.write(" ".join({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.fixture(scope="module")
def graph(workshop: Workshop) -> Path:
    return workshop.bundle(workshop.run("coupled")) / "model.onnx"


def make_spec(**graphs: Path) -> ModelSpec:
    return ModelSpec({name: str(path) for name, path in graphs.items()}, 2, 8, 30, 1, 0, Budget(3, 0.0, 1))


@pytest.mark.slow
def test_processes_share_the_rounds(graph: Path, tmp_path: Path) -> None:
    apart = time_in_processes(make_spec(one=graph, other=graph), tmp_path, 2)
    assert [sorted(times) for times in apart] == [["one", "other"]] * 2
    assert {len(rounds) for times in apart for rounds in times.values()} == {2}, "three rounds, rounded up"
    assert apart[0] != apart[1], "each of them measured"


@pytest.mark.slow
def test_it_times_every_model_in_every_round(graph: Path, tmp_path: Path) -> None:
    times = time_models(make_spec(one=graph, other=graph), tmp_path)
    assert set(times) == {"one", "other"}
    assert all(len(rounds) == 3 and min(rounds) > 0 for rounds in times.values())


def test_it_imports_onnxruntime_but_neither_torch_nor_transformers(graph: Path, tmp_path: Path) -> None:
    spec, result = tmp_path / "spec.json", tmp_path / "result.json"
    spec.write_text(json.dumps(make_spec(one=graph).to_json()))
    command = [sys.executable, "-c", REPORT_MODULES, str(spec), str(result)]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "onnxruntime" in modules
    assert not {"torch", "transformers", "onnx", "matplotlib"} & set(modules)


def test_when_it_dies_the_error_says_how_on_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    with pytest.raises(MeasurementError, match=r"1 models at 2x8 ended with status 1 \(.*broken\.onnx") as error:
        time_models(make_spec(one=broken), tmp_path)
    assert "\n" not in str(error.value)


def test_a_result_of_an_earlier_process_is_not_taken_for_this_one_s(graph: Path, tmp_path: Path) -> None:
    time_models(make_spec(one=graph), tmp_path)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    with pytest.raises(MeasurementError):
        time_models(make_spec(one=broken), tmp_path)


# rounds until they are precise


@pytest.mark.slow
def test_rounds_double_until_they_are_precise_enough() -> None:
    asked: list[int] = []

    def precise(times: dict[str, list[int]]) -> bool:
        asked.append(len(times["a"]))
        return asked[-1] >= 10

    times = time_until({"a": lambda: None, "b": lambda: None}, Budget(3, 0.0, 0), 60.0, precise)
    assert asked == [3, 6, 12]
    assert {name: len(rounds) for name, rounds in times.items()} == {"a": 12, "b": 12}


def test_without_time_the_first_rounds_are_finished_and_no_more() -> None:
    times = time_until({"a": lambda: None}, Budget(3, 0.0, 0), 0.0, lambda _: False)
    assert len(times["a"]) == 3


@pytest.mark.parametrize("text", ["8by128", "0x128", "8x", "-1x4"])
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a shape"):
        Shape.parse(text)
    assert Shape.parse(" 8X128 ") == Shape(8, 128)
    assert Shape(8, 128).tokens == 1024
