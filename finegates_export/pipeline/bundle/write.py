"""The bundle: a folder that onnxruntime, Transformers.js and sentence-transformers users know how to load.

model.onnx               the graph, weights inside (under onnx/ by option); from 2 GB on in model.onnx.data beside it
model_quantized.onnx     its int8 form, or
model_q4.onnx            its form with 4-bit weights, where asked for
openvino_model.xml, .bin the same as OpenVINO's IR (target openvino)
config.json, tokenizer   as transformers writes them
export.json and others   what clients look for (see transformers_manifest.py, pooling_files.py, genai_files.py)
bundle.json              plan, chain, target, versions, base and licence, sha256 of every other file
index.html and others    the page for the browser (target web; see deploy/web/site.py)
profiles.json            the inputs that an engine is to take (target tensorrt; see common/input_profile.py)
torch/                   the shrunk torch model, by option (see pruning/shrunk_folder.py)
README.md                a model card
bundle.json.sig          the signature of bundle.json, by option
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.common.files import JsonObject, sha256_tree, write_json
from finegates_export.common.graph_forms import graph_files, ir_files
from finegates_export.common.input_profile import FREE, PROFILES_JSON, Profile
from finegates_export.common.stamp import versions
from finegates_export.common.tasks import graph_outputs, task_of
from finegates_export.common.text_inputs import TextInputs
from finegates_export.common.tokenizer_files import copy_tokenizer_file
from finegates_export.deploy.engines.source import TARGET as ENGINE_TARGET
from finegates_export.families.model_config import ModelConfig, image_shape
from finegates_export.pipeline.bundle.model_card import model_card
from finegates_export.pipeline.report import ExportReport
from finegates_export.runtime.bundle_fields import SCHEMA_VERSION
from finegates_export.runtime.bundle_files import BUNDLE_JSON
from finegates_export.runtime.signature import SIGNATURE, sign

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from torch import nn

    from finegates_export.pipeline.bundle.genai_files import GenerationFiles
    from finegates_export.pruning.shrunk_folder import ShrunkInfo
    from finegates_export.sources.run_folder import Run, RunInfo

ONNX_FOLDER = "onnx"
TORCH_FOLDER = "torch"
UNSTABLE = ("seconds", "peak_memory_bytes")
"""Fields of a report that differ between exports of the same run."""


@dataclass(frozen=True)
class Content:
    """The content of a bundle."""

    run: Run
    """The exported run; its folder holds the tokenizer."""
    config: ModelConfig
    """The transformers config, as clients read it."""
    report: ExportReport
    """The export's outcome."""
    graphs: tuple[Path, ...]
    """Finished graph files: the float one, then the quantized one."""
    text: TextInputs | None = None
    """How texts are read; None for images."""
    pooled: bool = False
    """Whether the graphs pool the sentence embedding themselves."""
    openvino: Path | None = None
    """The finished XML file of the OpenVINO IR; None without one."""
    generation: GenerationFiles | None = None
    """The files of a decoder's clients; None for other tasks."""
    torch_model: tuple[nn.Module, ShrunkInfo] | None = None
    """The shrunk torch model and its description, if it goes into `torch/`."""

    @property
    def input_names(self) -> tuple[str, ...]:
        """The graphs' inputs, without a decoder's cache."""
        from finegates_export.families import family_of

        return family_of(self.config.model_type).input_names(self.config)


def write_files(folder: Path, content: Content, *, onnx_folder: bool) -> list[str]:
    """Fill an empty folder with a bundle's files, all but its card and record.

    Args:
        folder: where to write.
        content: what to write; the graph files are moved.
        onnx_folder: put the graphs under `onnx/`.

    Returns:
        The graphs' paths in the bundle, as `record` and `seal` take them.
    """
    info = content.run.info
    place = folder / ONNX_FOLDER if onnx_folder else folder
    place.mkdir(exist_ok=True)
    for graph in content.graphs:
        for part in graph_files(graph):
            shutil.move(part, place / part.name)
    if content.openvino is not None:
        for part in ir_files(content.openvino):
            shutil.move(part, folder / part.name)
    for file in content.run.companions():
        copy_tokenizer_file(file, folder, content.text, pads_left=task_of(info.task).generates)
    write_json(folder / "config.json", _config(info, content.config))
    _write_client_files(folder, place, content)
    if content.torch_model is not None:
        from finegates_export.pruning.shrunk_folder import write_shrunk

        (folder / TORCH_FOLDER).mkdir()
        write_shrunk(*content.torch_model, folder / TORCH_FOLDER)
    return [(place / graph.name).relative_to(folder).as_posix() for graph in content.graphs]


def seal(
    folder: Path,
    content: Content,
    paths: list[str],
    check: JsonObject | None = None,
    key: Ed25519PrivateKey | None = None,
) -> None:
    """Write a bundle's card, and last its record with the hashes of all other files.

    Args:
        folder: of `write_files`.
        content: what was written, with the report as it is now.
        paths: of its graphs.
        check: the rows that `load` checks a machine with; None for none.
        key: signs the bundle; None leaves it unsigned.
    """
    (folder / "README.md").write_text(model_card(content.run.info, content.report, paths), encoding="utf-8")
    files = sha256_tree(folder, leave_out=(BUNDLE_JSON,))
    told = {**record(content, paths), "check": check, "versions": versions(), "files": files}
    write_json(folder / BUNDLE_JSON, told)
    if key is not None:
        (folder / SIGNATURE).write_text(sign((folder / BUNDLE_JSON).read_bytes(), key), encoding="ascii")


def _write_client_files(folder: Path, place: Path, content: Content) -> None:
    """Write what engines, Optimum, generation clients and sentence-transformers look for beside the graphs."""
    from finegates_export.pipeline.bundle.pooling_files import write_pooling_files
    from finegates_export.pipeline.bundle.transformers_manifest import write_manifest

    info, names = content.run.info, content.input_names
    task = task_of(info.task)
    if content.report.target == ENGINE_TARGET:
        axes = (FREE, *image_shape(content.config)) if task.images else (FREE, FREE)
        inputs = dict.fromkeys(names, axes)
        write_json(folder / PROFILES_JSON, Profile.up_to(info.max_length).to_json(inputs))
    if content.generation is None:
        outputs = graph_outputs(task, pooled=content.pooled)
        write_manifest(folder, place / content.graphs[0].name, task, names, outputs)
    else:
        content.generation.write(folder, place / content.graphs[-1].name)
    if info.pooling is not None:
        write_pooling_files(
            folder,
            pooling=info.pooling,
            normalize=info.normalize,
            hidden_size=content.report.plan.residual_width,
            max_length=info.max_length,
        )


def record(content: Content, paths: list[str]) -> dict[str, object]:
    """The content of `bundle.json`, without versions and hashes.

    Args:
        content: of the bundle.
        paths: of its graphs.
    """
    info, generation = content.run.info, content.generation
    report = content.report.to_json()
    return {
        "schema_version": SCHEMA_VERSION,
        "task": info.task,
        "labels": list(info.labels),
        "max_length": info.max_length,
        "text": content.text.to_json() if content.text else None,
        "vocabulary": None if task_of(info.task).images else content.config.vocab_size,
        "cache": None if generation is None else generation.layout.to_json(),
        "positions": None if generation is None else generation.max_length,
        "pooling": info.pooling,
        "normalize": info.normalize,
        "graph": paths[0],
        "graphs": paths,
        "openvino": _openvino(content),
        "target": content.report.target,
        "base": {"name": info.base_name, "revision": info.base_revision, "licence": info.licence},
        "metric": info.metric,
        "metrics": info.metrics,
        "report": {name: value for name, value in report.items() if name not in UNSTABLE},
    }


def _openvino(content: Content) -> dict[str, object] | None:
    """What the runtime needs to know of the IR."""
    form = content.report.openvino
    if content.openvino is None or form is None:
        return None
    return {"graph": content.openvino.name, "weights": form.weights, "precisions": list(form.precisions)}


def _config(info: RunInfo, config: ModelConfig) -> dict[str, object]:
    values: dict[str, object] = config.to_diff_dict()
    values["model_type"] = config.model_type
    task = task_of(info.task)
    values["architectures"] = [f"{type(config).__name__.removesuffix('Config')}{task.architecture}"]
    if task.generates:
        values["architectures"] = config.architectures or values["architectures"]
    for name in ("_name_or_path", "id2label", "label2id", "num_labels", "problem_type"):  # those of the base's own task
        values.pop(name, None)
    return {**values, **task.config_values(info.labels)}
