"""LoRA through peft: attached to gated linears, saved in peft's own format, and never silently loaded as zeros."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from finegates_export.common.options import Options, check
from finegates_export.errors import InputError, UnsupportedError, missing_extra

if TYPE_CHECKING:
    from types import ModuleType

    from peft import LoraConfig, PeftModel
    from peft.tuners.lora import LoraLayer
    from torch import Tensor, nn

BASE_CHANGING_INITS = ("pissa", "olora", "corda", "loftq")
"""Initialisations that rewrite the base weights; folding them onto the original base would be wrong."""
CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
PEFT_PREFIX = "base_model.model."


@dataclass(frozen=True)
class LoraSettings(Options):
    """Settings of a new adapter."""

    rank: int
    alpha: float
    dropout: float = 0.0
    rslora: bool = False
    dora: bool = False

    def __post_init__(self) -> None:
        check(self.rank > 0, "rank", f"must be positive, got {self.rank}")
        check(self.alpha > 0, "alpha", f"must be positive, got {self.alpha}")
        check(0 <= self.dropout < 1, "dropout", f"must lie in [0, 1), got {self.dropout}")


def add_lora(model: nn.Module, linears: tuple[str, ...], settings: LoraSettings) -> PeftModel:
    """Wrap the named linears with new LoRA layers; everything else is frozen by peft.

    `task_type` stays unset: otherwise peft would save the task head in the adapter as well.
    """
    peft = _peft()
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        target_modules=list(linears),
        bias="none",
    )
    return _wrap(model, config)


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write the adapter in peft's format, safetensors, without the base."""
    model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)


@dataclass(frozen=True)
class StoredAdapter:
    """A checked adapter folder."""

    config: LoraConfig
    lora: dict[str, Tensor]
    """The LoRA tensors, by peft's saved names."""
    other: dict[str, Tensor]
    """Tensors of `modules_to_save`, by the plain model's names: a head that came with the adapter."""


def read_adapter(folder: Path) -> StoredAdapter:
    """Read an adapter folder in peft's format.

    Raises:
        InputError: files are missing or cannot be read.
        UnsupportedError: not LoRA, trained base biases, or an initialisation that changed the base.
    """
    peft = _peft()
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not (folder / "adapter_config.json").is_file():
        raise InputError(f"{folder} holds no adapter_config.json; give a peft adapter folder")
    if not (folder / WEIGHTS_FILE).is_file():
        raise InputError(f"{folder} holds no {WEIGHTS_FILE}; save the adapter with safe_serialization=True")
    try:
        config = peft.PeftConfig.from_pretrained(str(folder))
        tensors = load_file(folder / WEIGHTS_FILE)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise InputError(f"{folder}: the adapter cannot be read ({error})") from error
    if not isinstance(config, peft.LoraConfig):
        raise UnsupportedError(f"{folder} is a {config.peft_type} adapter; only LoRA can be folded")
    init = str(config.init_lora_weights).lower()
    if init.startswith(BASE_CHANGING_INITS):
        raise UnsupportedError(
            f"{folder} was initialised with {init}, which changes the base; convert it to plain LoRA"
        )
    if config.bias != "none":
        raise UnsupportedError(f"{folder} trained base biases (bias={config.bias!r}); only bias='none' is supported")
    broken = sorted(name for name, tensor in tensors.items() if not bool(tensor.isfinite().all()))
    if broken:
        raise InputError(
            f"{folder}: adapter tensor {broken[0]} holds NaN or infinite values; restore it or train again"
        )
    lora = {name: tensor for name, tensor in tensors.items() if "lora_" in name}
    other = {name.removeprefix(PEFT_PREFIX): tensor for name, tensor in tensors.items() if "lora_" not in name}
    return StoredAdapter(config, lora, other)


def load_adapter(model: nn.Module, stored: StoredAdapter, *, trainable: bool = False) -> PeftModel:
    """Load a stored adapter into a model, and make sure that every tensor was used.

    Raises:
        InputError: a tensor does not fit the model, or one of the model's keeps its initial value.
    """
    peft = _peft()
    config = stored.config
    config.modules_to_save, config.task_type = None, None
    config.inference_mode = not trainable
    config.base_model_name_or_path = model.name_or_path  # the base may have moved; its hashes were checked
    try:
        wrapped = _wrap(model, config)
        result = peft.set_peft_model_state_dict(wrapped, dict(stored.lora))
    except (ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"the adapter does not fit the base model ({error})") from error
    missing = [name for name in result.missing_keys if "lora_" in name]
    stray = list(result.unexpected_keys)
    if missing or stray or not stored.lora:
        name = (missing or stray or ["any LoRA tensor"])[0]
        raise InputError(
            f"the adapter would load as zeros: {len(missing)} of the model's LoRA tensors are not in the file and "
            f"{len(stray)} of the file's do not fit (first: {name}). It was saved for other module names"
        )
    return wrapped


class LoraWeights(NamedTuple):
    """LoRA's addition to a linear's matrix: `scaling * b @ a`."""

    a: Tensor
    """Shape (rank, inputs)."""
    b: Tensor
    """Shape (outputs, rank)."""
    scaling: float


def is_wrapped(module: nn.Module) -> bool:
    """Whether a module is peft's wrapper around a linear."""
    return hasattr(module, "base_layer")


def lora_weights(wrapper: LoraLayer) -> LoraWeights | None:
    """LoRA in peft's wrapper around a linear; None if it does more than `LoraWeights` (dropout, DoRA, ...)."""
    if wrapper.disable_adapters or wrapper.merged or len(wrapper.active_adapters) != 1:
        return None
    (name,) = wrapper.active_adapters
    dropout = wrapper.lora_dropout[name]
    drops = dropout.training and getattr(dropout, "p", 0.0) > 0
    if drops or wrapper.lora_bias[name] or name in wrapper.lora_variant:
        return None
    return LoraWeights(wrapper.lora_A[name].weight, wrapper.lora_B[name].weight, wrapper.scaling[name])


def _wrap(model: nn.Module, config: LoraConfig) -> PeftModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # between peft and transformers, nothing a user can act on
        return _peft().get_peft_model(model, config)


def _peft() -> ModuleType:
    try:
        import peft
    except ImportError as error:
        raise missing_extra("peft", "export") from error
    return peft
