"""The fresh process that measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from finegates_bench.exports import Exported
from finegates_bench.latency import run_worker
from finegates_bench.worker import WorkerSpec
from finegates_export.errors import MeasurementError
from finegates_export.measure.timer import Budget

REPORT_MODULES = """
import sys
from finegates_bench.worker import main
main()
sys.stdout.write(" ".join({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.fixture(scope="module")
def graph(exported: Exported) -> Path:
    return exported.graph


def make_spec(**graphs: Path) -> WorkerSpec:
    return WorkerSpec({name: str(path) for name, path in graphs.items()}, 2, 8, 30, 1, 0, Budget(3, 0.0, 1))


def test_it_times_every_model_in_every_round(graph: Path, tmp_path: Path) -> None:
    times = run_worker(make_spec(one=graph, other=graph), tmp_path)
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
        run_worker(make_spec(one=broken), tmp_path)
    assert "\n" not in str(error.value)
