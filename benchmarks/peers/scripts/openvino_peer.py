"""OpenVINO on our portable files, in float32."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import openvino
from contract import (
    CHECKED_ROWS,
    OPENVINO_FLOAT32,
    PORTABLE,
    RECORD,
    Arguments,
    Array,
    Model,
    all_logits,
    check_close,
    compared,
    read_rows,
    run_script,
)


def make(arguments: Arguments) -> list[Model]:
    """Unpruned and pruned."""
    ours = arguments.made / "ours"
    record = json.loads((ours / RECORD).read_text(encoding="utf-8"))
    told = {model["id"]: model for model in record["models"]}
    inputs, _ = read_rows(arguments.rows, "eval")
    models = []
    for name in ("unpruned", "pruned"):
        path = ours / PORTABLE / f"{name}.onnx"
        logits_BC = all_logits(openvino_forward(str(path), arguments.threads), inputs)
        np.save(arguments.out / f"{name}.npy", logits_BC)
        agreed = compared(np.load(path.with_suffix(".npy")), logits_BC[:CHECKED_ROWS])
        check_close(f"openvino-{name}", agreed)
        same = told[f"ours-{name}"]
        models.append(
            Model(
                id=f"openvino-{name}",
                title=f"{same['title']}, OpenVINO",
                runtime="openvino",
                parameters=same["parameters"],
                file=f"../ours/{PORTABLE}/{name}.onnx",
                removed=same["removed"],
                logits=f"{name}.npy",
                **agreed,
            )
        )
    return models


def openvino_forward(path: str, threads: int) -> Callable[[dict[str, Array]], Array]:
    """A file as a function from inputs to logits."""
    settings = {**OPENVINO_FLOAT32, "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    ports = [port.any_name for port in compiled.inputs]

    def forward(inputs: dict[str, Array]) -> Array:
        return np.array(compiled({port: inputs[port] for port in ports})[0])

    return forward


if __name__ == "__main__":
    run_script(__doc__, ("openvino", "numpy"), make)
