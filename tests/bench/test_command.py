"""The command from outside."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CALL = [
    sys.executable,
    "-c",
    "import sys; sys.argv[0] = 'finegates-bench'; from finegates_bench.cli import main; main()",
]


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CALL, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_it_measures_writes_and_prints(gated_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    arguments = ("--ckpt", gated_run / "levels" / "0.20", "--out", out, "--shapes", "1x4,2x8", "--rounds", 3)
    finished = bench(*arguments, "--seconds", 0, "--warmup", 0, "--threads", 1)
    assert finished.returncode == 0, finished.stderr
    assert "timing 2 models at 2x8" in finished.stderr
    assert (out / "report.md").read_text() in finished.stdout
    stamp = json.loads((out / "report.json").read_text())["stamp"]
    assert stamp["command"].startswith("finegates-bench --ckpt ")
    assert stamp["command"].endswith("--threads 1")
    assert (out / "index.html").is_file()


def test_a_bad_value_is_one_line_and_status_2(tmp_path: Path) -> None:
    finished = bench("--ckpt", tmp_path, "--out", tmp_path / "report", "--shapes", "8by128")
    assert finished.returncode == 2
    assert finished.stderr.count("\n") == 1
    assert "'8by128' is not a shape" in finished.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_run_is_one_line_and_status_2(tmp_path: Path) -> None:
    finished = bench("--ckpt", tmp_path, "--out", tmp_path / "report")
    assert finished.returncode == 2
    assert finished.stderr.count("\n") == 1
    assert "run.json" in finished.stderr
    assert list(tmp_path.iterdir()) == []
