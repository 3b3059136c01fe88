"""LoRA through peft: attached to gated linears, saved in peft's own format, and never silently loaded as zeros."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from finegates_export.common.options import Options, check
from finegates_export.errors import InputError, missing_extra
from finegates_export.gates.stored_adapter import StoredAdapter

if TYPE_CHECKING:
    from types import ModuleType

    from peft import LoraConfig, PeftModel
    from peft.tuners.lora import LoraLayer
    from torch import Tensor, nn


SAME_RELATIVE, SAME_ABSOLUTE = 1e-4, 1e-5
"""How much answers of one model may differ: both are computed in float32 by the same operators."""


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


def load_adapter(model: nn.Module, stored: StoredAdapter, *, trainable: bool = False) -> PeftModel:
    """Load a stored adapter into a model, and make sure that every tensor was used.

    Raises:
        InputError: a tensor does not fit the model, one that the adapter should have is missing, or one of the model's
            would keep its initial value.
    """
    peft = _peft()
    _check_whole(model, stored)
    config = peft.LoraConfig(**stored.settings, bias="none", inference_mode=not trainable)
    config.base_model_name_or_path = model.name_or_path  # the base may have moved; its hashes were checked
    try:
        wrapped = _wrap(model, config)
        result = peft.set_peft_model_state_dict(wrapped, dict(stored.lora))
    except (ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"the adapter does not fit the base model ({_one_line(error)})") from error
    missing = [name for name in result.missing_keys if "lora_" in name]
    stray = list(result.unexpected_keys)
    if missing or stray:
        raise _other_names(len(missing), len(stray), (missing or stray)[0])
    return wrapped


def check_as_peft(
    plain: nn.Module, wrapped: PeftModel, folder: Path, stored: StoredAdapter, inputs: dict[str, Tensor]
) -> None:
    """Refuse an adapter with which peft's own model answers otherwise than the loaded one.

    Args:
        plain: the model before its head and adapter were loaded; it may be changed.
        wrapped: the model with both.
        folder: the adapter in peft's format.
        stored: what was read from it.
        inputs: a batch.

    Raises:
        InputError: the answers differ, or peft does not load the adapter.
    """
    import torch

    peft = _peft()
    try:
        config = peft.PeftConfig.from_pretrained(str(folder))
        # The same modules by their names: a pattern may take for ever.
        config.target_modules, config.task_type = list(stored.modules), None
        config.exclude_modules = config.layers_to_transform = config.layers_pattern = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = peft.PeftModel.from_pretrained(plain, str(folder), config=config)
    except (OSError, ValueError, TypeError, RuntimeError, KeyError) as error:
        raise InputError(f"{folder}: peft does not load the adapter ({_one_line(error)}); save it again") from error
    with torch.no_grad():
        answers = [_answers(one.eval().get_base_model(), inputs) for one in (theirs, wrapped)]
    for one, other in zip(*answers, strict=True):
        if not torch.allclose(one, other, rtol=SAME_RELATIVE, atol=SAME_ABSOLUTE):
            raise InputError(
                f"{folder}: with this adapter peft's own model answers otherwise than the one loaded here (by up to "
                f"{float((one - other).abs().max()):.3g}); merge it into its base with peft, and start from that model"
            )


def _answers(model: nn.Module, inputs: dict[str, Tensor]) -> list[Tensor]:
    outputs: Any = model(**inputs)
    values = outputs.values() if hasattr(outputs, "values") else vars(outputs).values()
    return [value for value in values if hasattr(value, "is_floating_point") and value.is_floating_point()]


def _check_whole(model: nn.Module, stored: StoredAdapter) -> None:
    """Refuse an adapter that names modules which the model lacks, or lacks tensors for modules that it names."""
    from torch import nn

    modules = dict(model.named_modules())
    if not stored.lora:
        raise _other_names(0, 0, "no LoRA tensor at all")
    stray = [name for name in stored.modules if not isinstance(modules.get(name), nn.Linear)]
    if stray:
        raise _other_names(0, len(stray), stray[0])
    for name, _ in model.named_parameters():
        if _within(name, stored.saved) and name not in stored.other:
            raise InputError(
                f"the adapter is not whole: its modules_to_save say that {name} was trained, but it holds no such "
                "tensor; save it again with peft"
            )
    for path, module in modules.items():
        asked = isinstance(module, nn.Linear) and any(f".{path}".endswith(f".{end}") for end in stored.asked)
        if asked and path not in stored.modules and not _within(path, stored.saved):
            raise _other_names(1, 0, path)


def _within(path: str, names: tuple[str, ...]) -> bool:
    """Whether a path has one of the names among its parts, as peft finds `modules_to_save`."""
    return any(f".{name}." in f".{path}." for name in names)


def _other_names(missing: int, stray: int, first: str) -> InputError:
    return InputError(
        f"the adapter would load as zeros: {missing} of the model's LoRA tensors are not in the file and {stray} of "
        f"the file's do not fit (first: {first}). It was saved for other module names"
    )


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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:400]


def _peft() -> ModuleType:
    try:
        import peft
    except ImportError as error:
        raise missing_extra("peft", "export") from error
    return peft
