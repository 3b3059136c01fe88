"""An adapter folder in peft's format, from anybody: which module has which LoRA is read from its tensors.

Nothing in its settings is used as a pattern, and a setting is taken only if what it does to the model is known here:
an initialisation that changes the base, a variant of LoRA or a field of a later peft would make another model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finegates_export.common.files import JsonObject
from finegates_export.common.json_files import read_object
from finegates_export.common.stored_tensors import load_tensors
from finegates_export.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
PEFT_PREFIX = "base_model.model."
LORA = "LORA"
KEEPS_BASE = (True, False, "gaussian", "eva", "orthogonal", "mica")
"""peft's initialisations that leave the base as it was. Any other makes the adapter one of a changed base."""
SIMPLE: dict[str, tuple[str, Any]] = {
    "r": ("whole number", 8), "lora_alpha": ("number", 8), "lora_dropout": ("number", 0.0),
    "use_rslora": ("yes or no", False), "use_dora": ("yes or no", False), "lora_bias": ("yes or no", False),
    "fan_in_fan_out": ("yes or no", False),
}  # fmt: skip
"""Settings of plain LoRA: kinds of values, and peft's defaults."""
KINDS: dict[str, tuple[type, ...]] = {"whole number": (int,), "number": (int, float), "yes or no": (bool,)}
READ_FROM_TENSORS = ("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern")
NO_EFFECT = (
    "auto_mapping", "base_model_name_or_path", "corda_config", "eva_config", "inference_mode", "loftq_config",
    "lora_ga_config", "megatron_core", "peft_type", "peft_version", "qalora_group_size", "revision", "runtime_config",
    "task_type",
)  # fmt: skip
"""Settings that do not change what a stored adapter computes, where the initialisation is one of `KEEPS_BASE`."""
OTHERS = ("alpha_pattern", "bias", "init_lora_weights", "modules_to_save", "rank_pattern")
"""Settings that have a check of their own."""
OFF: tuple[Any, ...] = (None, False, [], {}, "", 0)
NAME = re.compile(r"[\w-]+(\.[\w-]+)*")
A, B, B_BIAS = "lora_A.weight", "lora_B.weight", "lora_B.bias"
MAGNITUDES = ("lora_magnitude_vector", "lora_magnitude_vector.weight")


@dataclass(frozen=True)
class StoredAdapter:
    """A checked adapter folder."""

    settings: JsonObject
    """Arguments of peft's LoraConfig, with every module by its whole name."""
    lora: dict[str, Tensor]
    """The LoRA tensors, by peft's saved names."""
    other: dict[str, Tensor]
    """Tensors of `modules_to_save`, by the plain model's names: a head that came with the adapter."""
    asked: tuple[str, ...] = ()
    """Ends of the names of the modules that should have LoRA; empty for a pattern, or where some are left out."""
    pattern: bool = False
    """Whether the folder gives a pattern instead of names, which nothing here follows."""
    saved: tuple[str, ...] = ()
    """Parts of the names of the modules whose own weights should be among the tensors (`modules_to_save`)."""

    @property
    def modules(self) -> tuple[str, ...]:
        """Whole names of the modules with LoRA."""
        return tuple(self.settings["target_modules"])


def read_adapter(folder: Path) -> StoredAdapter:
    """Read an adapter folder in peft's format.

    Raises:
        InputError: files are missing or cannot be read, or settings and tensors disagree.
        UnsupportedError: not LoRA, trained base biases, an initialisation that changed the base, or a setting that
            makes it more than plain LoRA.
    """
    values = _settings(folder)
    tensors = load_tensors(folder / WEIGHTS_FILE, InputError, "restore the adapter, or train it again")
    broken = sorted(name for name, tensor in tensors.items() if not bool(tensor.isfinite().all()))
    if broken:
        raise InputError(
            f"{folder}: adapter tensor {broken[0]} holds NaN or infinite values; restore it or train again"
        )
    lora = {name: tensor for name, tensor in tensors.items() if ".lora_" in name}
    other = {name.removeprefix(PEFT_PREFIX): tensor for name, tensor in tensors.items() if ".lora_" not in name}
    ranks = _ranks(folder, lora)
    settings = {name: values.get(name, default) for name, (_, default) in SIMPLE.items()}
    asked = values.get("target_modules")
    whole = isinstance(asked, list) and not any(values.get(name) for name in READ_FROM_TENSORS[1:])
    return StoredAdapter(
        {**settings, "target_modules": list(ranks), **_patterns(folder, values, ranks)},
        lora,
        other,
        asked=tuple(asked) if whole and asked else (),
        pattern=isinstance(asked, str),
        saved=tuple(values.get("modules_to_save") or ()),
    )


def _settings(folder: Path) -> JsonObject:
    """The folder's settings, each of which is understood."""
    file = folder / CONFIG_FILE
    if not file.is_file():
        inside = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG_FILE}")) if folder.is_dir() else []
        remedy = (
            f"it holds the adapters {', '.join(inside)}: give one of them" if inside else "give a peft adapter folder"
        )
        raise InputError(f"{folder} holds no {CONFIG_FILE}; {remedy}")
    if not (folder / WEIGHTS_FILE).is_file():
        raise InputError(f"{folder} holds no {WEIGHTS_FILE}; save the adapter with safe_serialization=True")
    values = read_object(file, InputError, "restore the adapter, or save it again with peft")
    if values.get("peft_type") != LORA:
        raise UnsupportedError(f"{folder} is a {values.get('peft_type')!s:.60} adapter; only LoRA can be folded")
    _check_init(folder, values.get("init_lora_weights", True))
    if values.get("bias", "none") != "none":
        raise UnsupportedError(f"{folder} trained base biases (bias={values['bias']!r}); only bias='none' is supported")
    known = {*SIMPLE, *READ_FROM_TENSORS, *NO_EFFECT, *OTHERS}
    for name, value in values.items():
        if name not in known and value not in OFF:
            raise UnsupportedError(
                f"{file}: {name} is {value!r:.80}, which makes the adapter more than plain LoRA; merge it into its "
                "base with peft, and start from that model"
            )
    for name, (kind, default) in SIMPLE.items():
        value = values.get(name, default)
        if type(value) not in KINDS[kind]:
            raise InputError(f"{file}: {name} is {value!r:.80}, not a {kind}; restore the adapter")
    _check_numbers(file, values)
    _check_names(file, values)
    return values


def _check_init(folder: Path, init: Any) -> None:
    if not any(init is known or (isinstance(known, str) and init == known) for known in KEEPS_BASE):
        raise UnsupportedError(
            f"{folder} was initialised with {init!s:.60}, which changes the base; convert it to plain LoRA with peft "
            "(path_initial_model_for_weight_conversion), or merge it into its base"
        )


def _check_numbers(file: Path, values: JsonObject) -> None:
    rank, alpha, dropout = (values.get(name, SIMPLE[name][1]) for name in ("r", "lora_alpha", "lora_dropout"))
    patterns = [values.get(name) or {} for name in ("rank_pattern", "alpha_pattern")]
    for name, pattern in zip(("rank_pattern", "alpha_pattern"), patterns, strict=True):
        if not isinstance(pattern, dict):
            raise InputError(f"{file}: {name} is {pattern!r:.80}, not an object; restore the adapter")
    ranks = {"r": rank, **{f"rank_pattern of {key}": value for key, value in patterns[0].items()}}
    alphas = {"lora_alpha": alpha, **{f"alpha_pattern of {key}": value for key, value in patterns[1].items()}}
    for name, value in (*ranks.items(), *alphas.items()):
        whole = name in ranks
        fits = (
            isinstance(value, int if whole else (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
        )
        if not fits:
            raise InputError(f"{file}: {name:.80} is {value!r:.80}, not a positive number; restore the adapter")
    if not 0 <= dropout < 1:
        raise InputError(f"{file}: lora_dropout is {dropout}, not in [0, 1); restore the adapter")


def _check_names(file: Path, values: JsonObject) -> None:
    """Names of modules are names: a pattern is never matched, it could take for ever."""
    saved = values.get("modules_to_save") or []
    asked = values.get("target_modules")
    lists = {"modules_to_save": saved, **({} if asked is None or isinstance(asked, str) else {"target_modules": asked})}
    keys = {name: list(values.get(name) or {}) for name in ("rank_pattern", "alpha_pattern")}
    for name, names in {**lists, **keys}.items():
        if not isinstance(names, list):
            raise InputError(f"{file}: {name} is {names!r:.80}, not a list of names; restore the adapter")
        for one in names:
            if not isinstance(one, str) or not NAME.fullmatch(_plain(one)):
                raise InputError(
                    f"{file}: {name} has {one!r:.80}, which is no module's name, and patterns are not taken; name each "
                    "module"
                )


def _ranks(folder: Path, lora: Mapping[str, Tensor]) -> dict[str, int]:
    """The rank of every module with LoRA, by its whole name, from the shapes of its tensors."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in lora.items():
        module, _, part = name.removeprefix(PEFT_PREFIX).partition(".lora_")
        part = f"lora_{part}"
        if part.startswith("lora_embedding"):
            raise UnsupportedError(f"{folder}: {name} adapts embeddings; only LoRA on linears can be folded")
        if part not in (A, B, B_BIAS, *MAGNITUDES):
            raise InputError(
                f"{folder}: the adapter would load as zeros: peft saves no tensor {name}; save it with save_pretrained"
            )
        if tensor.ndim > 2:
            raise UnsupportedError(f"{folder}: {name} adapts a convolution; only LoRA on linears can be folded")
        parts.setdefault(module, {})[part] = tensor
    for module, own in parts.items():
        a, b = own.get(A), own.get(B)
        if a is None or b is None or a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
            raise InputError(
                f"{folder}: the adapter would load as zeros: {module} needs {A} and {B} of one rank; restore the "
                "adapter"
            )
    return {module: int(own[A].shape[0]) for module, own in sorted(parts.items())}


def _patterns(folder: Path, values: JsonObject, ranks: Mapping[str, int]) -> JsonObject:
    """Ranks and scales of the modules that have others than the rest, each module by its whole name."""
    told = {name: _chosen(values.get("rank_pattern") or {}, name, values.get("r", 8)) for name in ranks}
    for name, rank in ranks.items():
        if told[name] != rank:
            raise InputError(
                f"{folder}: {CONFIG_FILE} gives {name} the rank {told[name]}, but its tensors have {rank}; restore the "
                "adapter"
            )
    alpha = values.get("lora_alpha", 8)
    alphas = {name: _chosen(values.get("alpha_pattern") or {}, name, alpha) for name in ranks}
    return {
        "rank_pattern": {name: rank for name, rank in ranks.items() if rank != values.get("r", 8)},
        "alpha_pattern": {name: one for name, one in alphas.items() if one != alpha},
    }


def _chosen(pattern: Mapping[str, Any], module: str, default: Any) -> Any:
    """What peft chooses for a module: the first name that is the module's or its end."""
    for key, value in pattern.items():
        name = _plain(key)
        if module == name or (not key.startswith("^") and module.endswith(f".{name}")):
            return value
    return default


def _plain(key: str) -> str:
    """A name as it is, where it is written for a pattern: with escaped dots, from the start, to the end."""
    return key.removeprefix("^").removesuffix("$").replace("\\.", ".")
