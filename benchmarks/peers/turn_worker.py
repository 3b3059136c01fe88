"""A process that holds models of one runtime and runs one of them whenever it is told to: a line in, a line out.

    <interpreter> turn_worker.py SPEC.json

SPEC    {"runtime": "onnxruntime", "threads": 2, "inputs": FILE.npz,
         "models": {id: FILE.onnx, or for torch [MODULE, FUNCTION, run folder, base folder]}}
It writes `ready`, then for every id that it reads the nanoseconds of one run; it ends with its input.
Only the runtime's own packages and numpy are imported, so that it runs in any peer's environment.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SCRIPTS = Path(__file__).parent / "scripts"
Inputs = dict[str, npt.NDArray[Any]]


def onnxruntime_call(path: str, inputs: Inputs, threads: int) -> Callable[[], object]:
    """One run of an ONNX file in onnxruntime."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    # Else idle threads would go on spinning into the next model's turn.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    given = {value.name: inputs[value.name] for value in session.get_inputs()}
    return lambda: session.run(None, given)


def openvino_call(path: str, inputs: Inputs, threads: int) -> Callable[[], object]:
    """One run of an ONNX file in OpenVINO."""
    forward = importlib.import_module("openvino_peer").openvino_forward(path, threads)
    return lambda: forward(inputs)


def torch_call(place: list[str], inputs: Inputs, threads: int) -> Callable[[], object]:
    """One run of a model that a peer's script builds."""
    import torch

    torch.set_num_threads(threads)
    module, function, run, base = place
    model = getattr(importlib.import_module(module), function)(Path(run), Path(base))
    given = {name: torch.from_numpy(values) for name, values in inputs.items()}

    def call() -> object:
        with torch.inference_mode():
            return model(**given)

    return call


CALLS: dict[str, Callable[[Any, Inputs, int], Callable[[], object]]] = {
    "onnxruntime": onnxruntime_call,
    "openvino": openvino_call,
    "torch": torch_call,
}


def main() -> None:
    """Serve until standard input ends."""
    sys.path.insert(0, str(SCRIPTS))
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print what they like; only answers may reach the other side
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with np.load(spec["inputs"]) as content:
        inputs = dict(content)
    make = CALLS[spec["runtime"]]
    calls = {name: make(model, inputs, spec["threads"]) for name, model in spec["models"].items()}
    gc.collect()
    gc.disable()
    answers.write("ready\n")
    for line in sys.stdin:
        call = calls[line.strip()]
        started = time.perf_counter_ns()
        call()
        answers.write(f"{time.perf_counter_ns() - started}\n")


if __name__ == "__main__":
    main()
