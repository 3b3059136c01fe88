"""Writes what `transformers.exporters` reads beside a graph: its file, its inputs and its outputs.

export.json        the manifest of `ExportedModel.from_pretrained`, experimental in transformers 5.23
model.onnx.data    empty: that loader refuses a graph without a file of weights beside it, and ours are inside
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from finegates_export.common.files import write_json
from finegates_export.common.foreign import tree_structure
from finegates_export.common.tasks import PIXELS, Task

MANIFEST = "export.json"
SCHEMA_VERSION = 1
WEIGHTS_SUFFIX = ".data"


def write_manifest(folder: Path, graph: Path, task: Task, names: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    """Describe a graph to `transformers.exporters`.

    Args:
        folder: the bundle.
        graph: its float32 graph.
        task: the graph's task.
        names: its inputs.
        outputs: its outputs, in order.
    """
    metadata = {
        "export_dtype": "float32",
        "export_device": "cpu",
        "kwargs": {name: _input(name) for name in names},
        "out_spec": _output_structure(task, outputs),
    }
    components = {"model": {"file": graph.relative_to(folder).as_posix(), "metadata": metadata}}
    manifest = {"schema_version": SCHEMA_VERSION, "export_format": "onnx", "components": components}
    write_json(folder / MANIFEST, manifest)
    graph.with_name(graph.name + WEIGHTS_SUFFIX).touch()


def _input(name: str) -> dict[str, object]:
    return {"rank": 4, "dtype": "float32"} if name == PIXELS else {"rank": 2, "dtype": "int64"}


def _output_structure(task: Task, outputs: tuple[str, ...]) -> str:
    """The outputs as the class that transformers returns, or as a dict if no class has them all, in torch's JSON."""
    import torch
    from transformers import modeling_outputs

    values = {name: torch.zeros(1) for name in outputs}
    kind = getattr(modeling_outputs, task.output_class)
    known = set(outputs) <= {field.name for field in dataclasses.fields(kind)}
    structure = kind(**values) if known else values
    return tree_structure(structure)
