"""Every family's export parsed and built by TensorRT itself, for two generations of GPUs, on the processor.

tensorrt-rtx has an environment of its own, which `make test-tensorrt` sets up; without it these tests are skipped.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.tiny_models import ENCODER_FAMILIES, IMAGE_VARIANTS

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".cache" / "tensorrt"
REQUIRED = "FINEGATES_TENSORRT_REQUIRED"
"""Set by `make test-tensorrt`, which has made the environment: then a missing one is a failure."""
GENERATIONS = ("sm80", "sm89")
LENIENT = {"min_agreement": 0.0, "max_metric_loss": 200.0}
SECONDS = 300


@pytest.fixture(autouse=True)
def environment() -> None:
    if not (HOME / ".ready").is_file():
        reason = f"{HOME} is missing; `make test-tensorrt` sets it up"
        if os.environ.get(REQUIRED):
            pytest.fail(reason)
        pytest.skip(reason)


def build(model, out, *flags):
    """What the command answers: its status, its result, its complaint."""
    command = [str(HOME / "bin" / "python"), "-m", "finegates_export.deploy.engines.cli", str(model), "--out", str(out)]
    done = subprocess.run(
        [*command, "--json", *flags],
        cwd=out.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def exported(workshop, variant, **options):
    task = "image-classification" if variant in IMAGE_VARIANTS else None
    run = workshop.run("coupled", variant=variant, task=task, layers=1)
    return workshop.bundle(run, target="tensorrt", **LENIENT, **options)


@pytest.mark.parametrize("variant", ENCODER_FAMILIES)
def test_every_family_is_built(workshop, variant, tmp_path):
    bundle = exported(workshop, variant)
    status, report, told = build(bundle, tmp_path / "engines", "--compute-capability", ",".join(GENERATIONS))
    assert status == 0, told
    assert set(report["engines"]) == {f"model-{name}.engine" for name in GENERATIONS}
    assert json.loads((bundle / "profiles.json").read_text()) == report["inputs"]
    assert all((tmp_path / "engines" / name).stat().st_size > 0 for name in report["engines"])


@pytest.mark.parametrize("variant", ["bert", "modernbert", "mpnet"])
def test_int8_is_built(workshop, variant, tmp_path):
    bundle = exported(workshop, variant, quantize="int8-static")
    status, report, told = build(bundle, tmp_path / "engines", "--quantized", "--compute-capability", "sm80")
    assert status == 0, told
    assert set(report["engines"]) == {"model_quantized-sm80.engine"}


def test_a_graph_that_is_refused_is_told_by_its_node_and_nothing_is_left(workshop, tmp_path):
    fused = workshop.bundle(workshop.run("coupled", variant="bert", layers=1))
    status, _, told = build(fused / "model.onnx", tmp_path / "engines", "--compute-capability", "sm80")
    assert status == 2
    assert "TensorRT cannot read" in told
    assert "MultiHeadAttention" in told or "Attention" in told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_inputs_can_be_chosen(workshop, tmp_path):
    flags = ("--smallest", "2x4", "--usual", "4x8", "--largest", "8x16", "--compute-capability", "sm80")
    status, report, told = build(exported(workshop, "bert"), tmp_path / "engines", *flags)
    assert status == 0, told
    assert report["inputs"]["input_ids"] == {"min": [2, 4], "opt": [4, 8], "max": [8, 16]}
    status, _, told = build(exported(workshop, "bert"), tmp_path / "other", "--compute-capability", "sm99")
    assert status == 2
    assert "'sm99' is not one of sm75" in told


def test_the_command_of_the_documentation(workshop, tmp_path):
    page = (ROOT / "docs" / "tensorrt.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith("finegates-engine ")]
    _, _, out_flag, out, *flags = shlex.split(line)
    assert out_flag == "--out"
    status, report, told = build(exported(workshop, "bert"), tmp_path / out, *flags)
    assert status == 0, told
    assert set(report["engines"]) == {f"model-{name}.engine" for name in GENERATIONS}
