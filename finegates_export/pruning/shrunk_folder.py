"""The shrunk torch model as a folder: saved, loaded for further fine-tuning, and exported again.

model.safetensors      the remaining weights
config.json            the base's config; the layers' own widths are in shrunk.json
shrunk.json            the run, the plan with every width, sha256 of the other files
samples.safetensors    the run's tokenized evaluation rows, for the chain of checks (optional)
tokenizer files
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from finegates_export.common.files import sha256_tree, staged_folder, write_json
from finegates_export.common.json_files import read_object
from finegates_export.common.stamp import versions
from finegates_export.common.stored_tensors import load_tensors
from finegates_export.common.tasks import task_of
from finegates_export.common.tasks.pooling import Pooling
from finegates_export.common.tensor_files import save_tensors
from finegates_export.common.tokenizer_files import companions
from finegates_export.common.typed_fields import check_fields
from finegates_export.errors import InputError, RunFolderError
from finegates_export.families.model_config import ModelConfig
from finegates_export.pruning.plan import ShrinkPlan
from finegates_export.sources.base_config import make_config
from finegates_export.sources.listed_files import check_listed
from finegates_export.sources.run_folder import SAMPLES_FILE, Run, RunInfo
from finegates_export.sources.sample_texts import TEXTS_FILE, read_texts

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from finegates_export.families.family import Family

SCHEMA_VERSION = 1
SHRUNK_JSON = "shrunk.json"
WEIGHTS_FILE = "model.safetensors"
ATTRIBUTE = "finegates"
"""The attribute of a loaded model that holds its `ShrunkInfo`."""


@dataclass(frozen=True)
class ShrunkInfo:
    """Facts about a shrunk model that it does not contain itself."""

    run: RunInfo
    plan: ShrinkPlan
    unpruned_parameters: int
    """Parameters of the model before shrinking."""
    companions: Path
    """The folder whose tokenizer and samples are saved with the model."""


@dataclass(frozen=True)
class _Record:
    """Fields of `shrunk.json` whose types are checked."""

    unpruned_parameters: int
    files: dict[str, str]


def save_torch(model: nn.Module, folder: str | Path, *, overwrite: bool = False) -> None:
    """Save a shrunk model from `load_torch`, before or after more fine-tuning.

    Args:
        model: with its `ShrunkInfo`; LoRA must be merged.
        folder: the destination.
        overwrite: replace an existing folder.

    Raises:
        InputError: not a shrunk model, or it still carries an adapter.
        OutputError: the folder cannot be written.
    """
    info = getattr(model, ATTRIBUTE, None)
    if not isinstance(info, ShrunkInfo):
        raise InputError(f"{type(model).__name__} is not a shrunk model; save_torch takes a model from load_torch")
    adapters = [name for name, _ in model.named_parameters() if "lora_" in name]
    if adapters:
        raise InputError(f"the model still carries an adapter ({adapters[0]}); merge it first: merge_and_unload()")
    with staged_folder(Path(folder), overwrite=overwrite, marks=(SHRUNK_JSON,)) as stage:
        write_shrunk(model, info, stage)


def write_shrunk(model: nn.Module, info: ShrunkInfo, folder: Path) -> None:
    """Fill an empty folder; see `save_torch`."""
    config = cast("ModelConfig", model.config)
    tied = _tied(model)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    save_tensors(tensors, folder / WEIGHTS_FILE, {"format": "pt"})
    config.save_pretrained(folder)
    kept = [info.companions / name for name in (SAMPLES_FILE, TEXTS_FILE) if name in info.run.files]
    for file in (*companions(info.companions, info.run.files), *kept):
        shutil.copyfile(file, folder / file.name)
    write_json(
        folder / SHRUNK_JSON,
        {
            "schema_version": SCHEMA_VERSION,
            "run": info.run.to_json(),
            "plan": info.plan.to_json(),
            "unpruned_parameters": info.unpruned_parameters,
            "versions": versions(),
            "files": sha256_tree(folder, leave_out=(SHRUNK_JSON,)),
        },
    )


def load_torch(folder: str | Path) -> nn.Module:
    """Load a shrunk model: a working `nn.Module` in float32, every parameter trainable, in evaluation mode.

    Linears keep their paths, so LoRA's `target_modules` are those of the base.

    Args:
        folder: written by `finegates-export --torch` (`torch/` in a bundle) or `save_torch`.

    Raises:
        RunFolderError: missing, damaged, or of a newer schema.
        InputError: the weights do not fit the widths.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from finegates_export.families import family_of
    from finegates_export.pruning.shrink import shrink

    folder = Path(folder)
    info = read_shrunk(folder)
    config = read_config(folder)
    family = family_of(config.model_type)
    with torch.random.fork_rng():  # the random weights made here are discarded
        model = _empty_model(config, family, info.run)
    shrink(model, family.structure(config), info.plan)
    try:
        tensors = load_file(folder / WEIGHTS_FILE)
        tied = _tied(model)
        tensors.update({name: tensors[source] for name, source in tied.items() if source in tensors})
        model.load_state_dict(tensors, strict=True, assign=True)
        for name, source in tied.items():
            _set_parameter(model, name, model.get_parameter(source))
    except (RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder / WEIGHTS_FILE} does not fit the widths in {SHRUNK_JSON} ({error})") from error
    setattr(model, ATTRIBUTE, info)
    return model.requires_grad_(True).eval()


def is_shrunk(folder: Path) -> bool:
    """Whether a folder holds a shrunk model and not a run."""
    return (folder / SHRUNK_JSON).is_file()


def read_config(folder: Path) -> ModelConfig:
    """The base's transformers config, as it lies beside a shrunk model."""
    return make_config(str(folder), folder, {})[0]


def read_shrunk(folder: Path) -> ShrunkInfo:
    """The content of `shrunk.json`, every file checked against its hash.

    Raises:
        RunFolderError: missing, damaged, or of a newer schema.
    """
    path = folder / SHRUNK_JSON
    if not path.is_file():
        raise RunFolderError(f"{folder} holds no {SHRUNK_JSON}; finegates-export --torch writes such a folder")
    remedy = "export or save the model again"
    values = read_object(path, RunFolderError, remedy)
    if values.get("schema_version") != SCHEMA_VERSION:
        raise RunFolderError(
            f"{path} has schema version {values.get('schema_version')!r:.80}, but this version reads {SCHEMA_VERSION}; "
            "update finegates-export"
        )
    try:
        check_fields(RunInfo, values["run"])
        check_fields(_Record, values)
        # What it lists now is what its own folder holds.
        run = replace(RunInfo.from_json(values["run"]), files=values["files"])
        info = ShrunkInfo(run, ShrinkPlan.from_json(values["plan"]), values["unpruned_parameters"], folder)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, InputError) as error:
        raise RunFolderError(f"{path} is damaged ({error}); {remedy}") from error
    check_listed(folder, path, values["files"])
    return info


def run_of(folder: Path) -> Run:
    """A shrunk model as a run without gates, as an export needs it.

    Raises:
        RunFolderError: see `read_shrunk`.
    """
    info = read_shrunk(folder)
    listed = SAMPLES_FILE in info.run.files
    samples = load_tensors(folder / SAMPLES_FILE, RunFolderError, "save the model again") if listed else None
    return Run(folder, info.run, {}, {}, samples, read_texts(folder) if TEXTS_FILE in info.run.files else ())


def _empty_model(config: ModelConfig, family: Family, run: RunInfo) -> nn.Module:
    import transformers

    task = task_of(run.task)
    made: PreTrainedModel = getattr(transformers, task.auto_class).from_config(config)
    family.make_linears(made)
    if task.has_head:
        return made
    from finegates_export.sources.encoder_model import EncoderModel

    if getattr(made, "pooler", None) is not None:
        made.pooler = None
    pooling = Pooling(run.pooling, run.normalize) if run.pooling else None
    return EncoderModel(made, family.prefix, pooling)


def _tied(model: nn.Module) -> dict[str, str]:
    """Tied parameters (an LM head tied to the embeddings), and what they are tied to."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    every = model.named_parameters(remove_duplicate=False)
    return {name: first[id(parameter)] for name, parameter in every if first[id(parameter)] != name}


def _set_parameter(model: nn.Module, path: str, parameter: nn.Parameter) -> None:
    owner, _, name = path.rpartition(".")
    setattr(model.get_submodule(owner), name, parameter)
