"""An older onnxruntime on a bundle's graph.

<interpreter> SCRIPT SPEC.json RESULT.json; the forms of both are described in harness.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    path = Path(spec["bundle"]) / ("model_quantized.onnx" if spec["quantized"] else "model.onnx")
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    feed = {value.name: np.asarray(spec["inputs"][value.name], np.int64) for value in session.get_inputs()}
    outputs = {name: value.tolist() for name, value in zip(names, session.run(names, feed), strict=True)}
    result = {"outputs": outputs, "version": f"onnxruntime {onnxruntime.__version__}"}
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")


main()
