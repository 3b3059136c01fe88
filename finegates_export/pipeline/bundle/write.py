"""The bundle: a folder that onnxruntime, Transformers.js and sentence-transformers users know how to load.

model.onnx               the graph, weights inside (under onnx/ by option); from 2 GB on in model.onnx.data beside it
model_quantized.onnx     its int8 form, or
model_q4.onnx            its form with 4-bit weights, where asked for
config.json, tokenizer   as transformers writes them
export.json and others   what clients look for (see transformers_manifest.py, pooling_files.py, genai_files.py)
bundle.json              plan, chain, target, versions, base and licence, sha256 of every other file
index.html and others    the page for the browser (target web; see deploy/web/site.py)
profiles.json            the inputs that an engine is to take (target tensorrt; see common/input_profile.py)
torch/                   the shrunk torch model, by option (see pruning/shrunk_folder.py)
README.md                a model card
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finegates_export.common.files import sha256_tree, write_json
from finegates_export.common.graph_forms import graph_files
from finegates_export.common.input_profile import FREE, PROFILES_JSON, Profile
from finegates_export.common.stamp import versions
from finegates_export.common.tasks import graph_outputs, image_shape, task_of
from finegates_export.common.tokenizer_files import companions, copy_tokenizer_file
from finegates_export.deploy.engines.source import TARGET as ENGINE_TARGET
from finegates_export.pipeline.bundle.model_card import model_card
from finegates_export.pipeline.report import ExportReport
from finegates_export.runtime.bundle_files import BUNDLE_JSON

if TYPE_CHECKING:
    from finegates_export.pipeline.bundle.genai_files import GenerationFiles
    from finegates_export.pruning.shrunk_folder import ShrunkInfo
    from finegates_export.sources.run_folder import Run, RunInfo

SCHEMA_VERSION = 1
ONNX_FOLDER = "onnx"
TORCH_FOLDER = "torch"


def write_bundle(
    folder: Path,
    graphs: list[Path],
    run: Run,
    config: Any,
    report: ExportReport,
    *,
    onnx_folder: bool,
    pooled: bool = False,
    generation: GenerationFiles | None = None,
    torch_model: tuple[Any, ShrunkInfo] | None = None,
) -> None:
    """Fill an empty folder with a bundle, `bundle.json` last.

    Args:
        folder: where to write.
        graphs: finished graph files, moved in under their own names.
        run: what was exported.
        config: the base's transformers config.
        report: the export's outcome.
        onnx_folder: put the graphs under `onnx/`.
        pooled: whether the graphs pool the sentence embedding themselves.
        generation: what a decoder's clients read; None for other tasks.
        torch_model: the shrunk torch model and what describes it, to be put under `torch/`.
    """
    place = folder / ONNX_FOLDER if onnx_folder else folder
    place.mkdir(exist_ok=True)
    for graph in graphs:
        for part in graph_files(graph):
            shutil.move(part, place / part.name)
    for file in companions(run.folder):
        copy_tokenizer_file(file, folder, run.info.max_length)
    write_json(folder / "config.json", _config(run.info, config))
    from finegates_export.families import family_of
    from finegates_export.pipeline.bundle.transformers_manifest import write_manifest

    task, names = task_of(run.info.task), family_of(config.model_type).input_names(config)
    if report.target == ENGINE_TARGET:
        axes = (FREE, *image_shape(config)) if task.images else (FREE, FREE)
        inputs = dict.fromkeys(names, axes)
        write_json(folder / PROFILES_JSON, Profile.up_to(run.info.max_length).to_json(inputs))
    if generation is None:
        write_manifest(folder, place / graphs[0].name, task, names, graph_outputs(task, pooled=pooled))
    else:
        generation.write(folder, place / graphs[-1].name)
    if run.info.pooling is not None:
        from finegates_export.pipeline.bundle.pooling_files import write_pooling_files

        write_pooling_files(
            folder,
            pooling=run.info.pooling,
            normalize=run.info.normalize,
            hidden_size=report.plan.residual_width,
            max_length=run.info.max_length,
        )
    if torch_model is not None:
        from finegates_export.pruning.shrunk_folder import write_shrunk

        (folder / TORCH_FOLDER).mkdir()
        write_shrunk(*torch_model, folder / TORCH_FOLDER)
    info = run.info
    paths = [(place / graph.name).relative_to(folder).as_posix() for graph in graphs]
    (folder / "README.md").write_text(model_card(info, report, paths), encoding="utf-8")
    write_json(
        folder / BUNDLE_JSON,
        {
            "schema_version": SCHEMA_VERSION,
            "task": info.task,
            "labels": list(info.labels),
            "max_length": info.max_length,
            "vocabulary": None if task.images else config.vocab_size,
            "cache": None if generation is None else generation.layout.to_json(),
            "positions": None if generation is None else generation.max_length,
            "pooling": info.pooling,
            "normalize": info.normalize,
            "graph": paths[0],
            "graphs": paths,
            "target": report.target,
            "base": {
                "name": info.base_name,
                "revision": info.base_revision,
                "licence": info.licence,
            },
            "metric": info.metric,
            "metrics": info.metrics,
            "report": {k: v for k, v in report.to_json().items() if k not in ("seconds", "peak_memory_bytes")},
            "versions": versions(),
            "files": sha256_tree(folder, leave_out=(BUNDLE_JSON,)),
        },
    )


def _config(info: RunInfo, config: Any) -> dict[str, Any]:
    values: dict[str, Any] = config.to_diff_dict()
    values["model_type"] = config.model_type
    task = task_of(info.task)
    values["architectures"] = [f"{type(config).__name__.removesuffix('Config')}{task.architecture}"]
    if task.generates:
        values["architectures"] = config.architectures or values["architectures"]
    for name in ("_name_or_path", "id2label", "label2id", "num_labels", "problem_type"):  # the base's own task's
        values.pop(name, None)
    return {**values, **task.config_values(info.labels)}
