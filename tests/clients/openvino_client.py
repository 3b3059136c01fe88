"""OpenVINO on a bundle's graph.

<interpreter> SCRIPT SPEC.json RESULT.json; the forms of both are described in harness.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import openvino

FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
"""On recent processors OpenVINO computes in bfloat16 where nobody asks for more."""


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    model = openvino.Core().compile_model(Path(spec["bundle"]) / "model.onnx", "CPU", FLOAT32)
    names = [port.any_name for port in model.inputs]
    computed = model({name: np.asarray(spec["inputs"][name], np.int64) for name in names})
    outputs = {port.any_name: computed[port].tolist() for port in model.outputs}
    result = {"outputs": outputs, "version": f"openvino {openvino.__version__}"}
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")


main()
