"""int8 on a processor without VNNI, emulated: qemu runs onnxruntime as a Haswell does (`make test-processors`)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from finegates_export.graphs.quantization.int8 import quantize_dynamic_int8, quantize_static_int8
from tests.export.test_quantized import product_graph

QEMU = "qemu-x86_64"
INPUTS, OUTPUTS = 64, 32
CODE = """
import sys
import numpy as np, onnxruntime
x = np.load(sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
np.save(sys.argv[3], session.run(None, {"x": x})[0])
"""
pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"no {QEMU}: apt-get install qemu-user"),
]


def computed(graph: Path, x, folder: Path, *before: str):
    """The graph's output, on this processor or behind an emulator."""
    given, made = folder / "x.npy", folder / "y.npy"
    np.save(given, x)
    environment = {**os.environ, "PYTHONPATH": str(Path(onnxruntime.__file__).parents[1])}
    command = [*before, os.path.realpath(sys.executable), "-c", CODE, str(graph), str(given), str(made)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return np.load(made)


def off(graph: Path, x, folder: Path, wanted):
    """The largest error on the emulated processor, of the scale."""
    found = computed(graph, x, folder, QEMU, "-cpu", "Haswell")
    return np.abs(found - wanted).max() / np.abs(wanted).max()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A product whose pairs of terms are as large as they can be."""
    path = tmp_path_factory.mktemp("plain") / "plain.onnx"
    product_graph(path, np.ones((INPUTS, OUTPUTS), np.float32))
    return path


@pytest.fixture(scope="module")
def x():
    return np.ones((1, 4, INPUTS), np.float32)


def test_weights_of_7_bits_mean_the_same_there_and_of_8_do_not(tmp_path, plain, x):
    wanted = computed(plain, x, tmp_path)
    errors = {}
    for bits in (7, 8):
        quantize_dynamic_int8(plain, tmp_path / f"{bits}.onnx", ["product"], bits=bits)
        errors[bits] = off(tmp_path / f"{bits}.onnx", x, tmp_path, wanted)
        assert np.abs(computed(tmp_path / f"{bits}.onnx", x, tmp_path) - wanted).max() < 0.02 * INPUTS
    assert errors[7] < 0.02
    assert errors[8] > 0.1, "it saturates, or there is nothing to keep below"


def test_static_ranges_mean_the_same_there(tmp_path, plain, x):
    wanted = computed(plain, x, tmp_path)
    quantize_static_int8(plain, tmp_path / "static.onnx", ["product"], [{"x": x}], bits=7)
    assert off(tmp_path / "static.onnx", x, tmp_path, wanted) < 0.02
