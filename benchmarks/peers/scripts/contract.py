"""What every peer's script is told, and what it leaves behind: models and `peer.json`.

Scripts run in environments that have nothing of this project, so this file needs numpy alone.

Shapes: B rows, C labels.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

RECORD = "peer.json"
PORTABLE = "portable"
"""Where our peer leaves files of standard operators alone, and the logits that they should give."""
CHECKED_ROWS = 64
"""Evaluation rows on which a file is compared with the torch model it was made of."""
OPENVINO_FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "1"}
"""On recent processors OpenVINO computes in bfloat16 where nobody asks for more."""
TOLERANCE = 1e-4
"""What a float32 model's logits may move by on the way from torch, as a share of their scale."""
BATCH = 32
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class Arguments:
    """The command line of every script; one that has no use for something leaves it."""

    run: Path
    """The unpruned model: a run folder of the layout `none`."""
    level: Path
    """The pruned model: a run folder, or one of its levels."""
    base: Path
    small: Path | None
    """A smaller pretrained model, where the peer needs one."""
    data: str
    """Where the rows come from."""
    rows: Path
    """The same rows tokenized: train.npz and eval.npz."""
    made: Path
    """The folder that holds what other peers left, each under its name."""
    out: Path
    """An empty folder."""
    removed: float
    """Share of the layers' linear weights that is gone from the pruned model."""
    steps: int
    """Optimizer steps that the pruned model took after the unpruned one was trained."""
    unpruned_steps: int
    """Optimizer steps of the unpruned model."""
    agreement: float
    """Share of equal predictions that our own int8 files must keep."""
    metric_loss: float
    """Points of the metric that they may lose."""
    seed: int
    threads: int

    @property
    def info(self) -> dict[str, Any]:
        """What the unpruned run says of itself."""
        content: dict[str, Any] = json.loads((self.run / "run.json").read_text(encoding="utf-8"))
        return content


@dataclass(frozen=True)
class Model:
    """One model that a script made."""

    id: str
    title: str
    """How tables name it."""
    runtime: str
    """onnxruntime, openvino or torch."""
    parameters: int
    difference: float
    """Largest difference from the logits of the torch model it was made of, as a share of their largest."""
    agreement: float
    """Share of rows with the same prediction as that torch model."""
    file: str = ""
    """The ONNX file, seen from the peer's folder; empty for a model that is built in torch."""
    build: str = ""
    """Torch: `MODULE:FUNCTION` of scripts/, which takes run and base and returns the model."""
    build_from: str = ""
    """Torch: `run` or `level`."""
    precision: str = "float32"
    removed: float = 0.0
    """Share of the layers' linear weights that is gone."""
    logits: str = ""
    """Where its runtime is not onnxruntime: a file with its logits of the evaluation rows, in their order."""
    fused: dict[str, int] = field(default_factory=dict)
    """Operators of onnxruntime's own in the graph, and how many of each."""


def read_arguments(description: str | None) -> Arguments:
    """The command line."""
    parser = argparse.ArgumentParser(description=description)
    for name in ("run", "level", "base", "rows", "made", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--small", type=Path)
    parser.add_argument("--data", required=True)
    for name in ("removed", "agreement", "metric-loss"):
        parser.add_argument(f"--{name}", type=float, required=True)
    for name in ("steps", "unpruned-steps", "seed", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    return Arguments(**vars(parser.parse_args()))


def run_script(description: str | None, packages: Iterable[str], make: Callable[[Arguments], list[Model]]) -> None:
    """The whole of a script: read the command line, make the models, write `peer.json`.

    Args:
        description: the script's own.
        packages: whose versions are recorded.
        make: makes the models in `arguments.out`.
    """
    arguments = read_arguments(description)
    started = time.perf_counter()
    models = make(arguments)
    record = {
        "models": [asdict(model) for model in models],
        "seconds": round(time.perf_counter() - started, 1),
        "versions": {package: version(package) for package in packages},
    }
    (arguments.out / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_rows(folder: Path, name: str) -> tuple[dict[str, Array], Array]:
    """Tokenized rows, padded to the longest of them, and their labels."""
    with np.load(folder / f"{name}.npz") as content:
        inputs = {name: content[name] for name in INPUTS if name in content}
        return inputs, content["labels"]


def trimmed(inputs: dict[str, Array], rows: Array | slice) -> dict[str, Array]:
    """Some rows, without the columns that are padding in all of them."""
    longest = int(inputs["attention_mask"][rows].sum(1).max())
    return {name: values[rows, :longest] for name, values in inputs.items()}


def all_logits(
    forward: Callable[[dict[str, Array]], Array], inputs: dict[str, Array], count: int | None = None
) -> Array:
    """Logits (B, C) of the first `count` rows, a batch at a time."""
    total = len(inputs["input_ids"]) if count is None else min(count, len(inputs["input_ids"]))
    starts = range(0, total, BATCH)
    return np.concatenate([forward(trimmed(inputs, slice(i, min(i + BATCH, total)))) for i in starts])


def compared(expected_BC: Array, given_BC: Array) -> dict[str, float]:
    """`difference` and `agreement` of a model, from logits of the same rows."""
    return {
        "difference": float(np.abs(expected_BC - given_BC).max() / np.abs(expected_BC).max()),
        "agreement": float((expected_BC.argmax(-1) == given_BC.argmax(-1)).mean()),
    }


def check_close(name: str, agreed: dict[str, float]) -> None:
    """Stop a script whose float32 model computes something else than the torch model that it was made of."""
    if agreed["difference"] > TOLERANCE:
        raise SystemExit(f"{name}: logits move by {agreed['difference']:.1e} of their scale, allowed is {TOLERANCE:g}")
