"""The verb `write_repository`: a bundle in, a model repository for Triton out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finegates_export.common.files import check_destination, sha256_file, staged_folder
from finegates_export.common.graph_forms import graph_files
from finegates_export.deploy.triton import configs
from finegates_export.deploy.triton.options import TritonOptions
from finegates_export.deploy.triton.pbtxt import Message, pbtxt
from finegates_export.deploy.triton.served import Served, read_served
from finegates_export.runtime.bundle_files import BUNDLE_JSON, EXPORT_MARKS, TOKENIZER_JSON

CONFIG = "config.pbtxt"
VERSION = "1"
WARM_UP = "warmup"
"""The folder of a model where Triton looks for warm-up data."""
PYTHON_MODELS = Path(__file__).parent / "python_models"
SAMPLE = b"a film that is watched once"
"""The text that warms up the tokenizer."""


@dataclass(frozen=True)
class RepositoryReport:
    """The written repository."""

    name: str
    """The model's name in requests."""
    models: tuple[str, ...]
    """All models of the repository."""
    device: str
    """What runs the graph."""
    graph_sha256: str
    """SHA-256 of the graph's file, which is the bundle's."""

    def to_json(self) -> dict[str, object]:
        """As JSON types."""
        return {**self.__dict__, "models": list(self.models)}

    def __str__(self) -> str:
        return f"{self.name}: {', '.join(self.models)}; the graph runs on {self.device}"


def write_repository(options: TritonOptions) -> RepositoryReport:
    """Write a model repository.

    Args:
        options: the bundle, and how to serve it.

    Raises:
        InputError: not a bundle, a file of it was changed, or it lacks the requested graph.
        OutputError: the folder cannot be written.
        UnsupportedError: its task's answers are not tensors, or the device cannot run its graph.
    """
    check_destination(options.out, overwrite=options.overwrite, marks=EXPORT_MARKS, reads=(options.bundle,))
    served = read_served(options)
    with staged_folder(options.out, overwrite=options.overwrite, marks=EXPORT_MARKS) as folder:
        return fill_repository(folder, served)


def fill_repository(folder: Path, served: Served) -> RepositoryReport:
    """Fill an empty folder with the models of a bundle."""
    models = dict(_models(served))
    for name, config in models.items():
        (folder / name / VERSION).mkdir(parents=True)
        (folder / name / CONFIG).write_text(pbtxt(config), encoding="utf-8")
    _put_graph(served, folder / served.part(configs.GRAPH))
    if not served.task.images:
        _put_tokenizer(served, folder / served.part(configs.TOKENIZER))
    if served.decides:
        _put_python_model("answer", folder / served.part(configs.ANSWER))
        _put_labels(served, folder / served.name)
    shutil.copyfile(served.options.bundle / BUNDLE_JSON, folder / served.name / VERSION / BUNDLE_JSON)
    return RepositoryReport(served.name, tuple(models), served.device, sha256_file(served.graph))


def _models(served: Served) -> Iterator[tuple[str, Message]]:
    """Every model's name and config."""
    yield served.name, configs.ensemble_config(served)
    if not served.task.images:
        yield served.part(configs.TOKENIZER), configs.tokenizer_config(served)
    yield served.part(configs.GRAPH), configs.graph_config(served)
    if served.decides:
        yield served.part(configs.ANSWER), configs.answer_config(served)


def _put_graph(served: Served, model: Path) -> None:
    for part in graph_files(served.graph):
        shutil.copyfile(part, model / VERSION / part.name)
    if served.labels:
        _put_labels(served, model)
    if served.task.images:
        return
    for length in configs.warm_lengths(served):
        _put_warm_up(model, configs.attended_file(length), np.ones(length, "<i8").tobytes())


def _put_tokenizer(served: Served, model: Path) -> None:
    _put_python_model("tokenizer", model)
    shutil.copyfile(served.options.bundle / TOKENIZER_JSON, model / VERSION / TOKENIZER_JSON)
    if served.options.warm_up:
        # Triton stores a string as its length in four little-endian bytes, followed by its bytes.
        _put_warm_up(model, configs.WARM_UP_TEXT, len(SAMPLE).to_bytes(4, "little") + SAMPLE)


def _put_python_model(name: str, model: Path) -> None:
    shutil.copyfile(PYTHON_MODELS / f"{name}.py", model / VERSION / "model.py")


def _put_labels(served: Served, model: Path) -> None:
    (model / configs.LABELS_FILE).write_text("\n".join(served.labels) + "\n", encoding="utf-8")


def _put_warm_up(model: Path, name: str, content: bytes) -> None:
    (model / WARM_UP).mkdir(exist_ok=True)
    (model / WARM_UP / name).write_bytes(content)
