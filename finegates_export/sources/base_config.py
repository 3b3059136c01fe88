"""A base's `config.json`, written by somebody else on another machine: what it says of the model, and nothing more.

How the model was last run (which attention, which type, what it returns) is overruled: that is for us to choose. Sizes
are held to what a model can have before anything is built from them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from finegates_export.common.files import JsonObject
from finegates_export.common.json_files import read_object
from finegates_export.errors import InputError, UnsupportedError
from finegates_export.families.model_config import ModelConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG_JSON = "config.json"
OVERRULED = (
    "_attn_implementation", "_attn_implementation_internal", "_commit_hash", "_experts_implementation",
    "_name_or_path", "attn_implementation", "auto_map", "chunk_size_feed_forward", "device", "device_map", "dtype",
    "experts_implementation", "gradient_checkpointing", "max_memory", "offload_folder", "output_attentions",
    "output_hidden_states", "return_dict", "tensor_parallel", "torch_dtype", "torchscript", "tp_plan", "use_bfloat16",
    "use_return_dict",
)  # fmt: skip
"""Fields on how a model was run. None of them changes what it computes in float32."""
QUANTIZED = ("quantization_config", "compression_config")
"""Fields that say that the weights are stored in a form of their own."""
FLOATS_WHEN_LOADED = "fp8"
"""The quantization that transformers converts back to floats when it loads a model on the CPU."""
OTHER_MODEL = {
    "pruned_heads": "heads were pruned by transformers; save the model once with its heads removed",
    "add_cross_attention": "its layers attend to another model as well",
    "is_encoder_decoder": "it is an encoder with a decoder; use one that is an encoder or a decoder alone",
    "adapters": "its weights belong to adapters; merge them",
}
"""Fields that, where they are set, make a model that is not served, and why."""
COUNTS = {
    "num_hidden_layers": 1024, "n_layers": 1024, "n_layer": 1024, "num_attention_heads": 4096, "n_heads": 4096,
    "n_head": 4096, "num_key_value_heads": 4096, "head_dim": 1 << 16, "hidden_size": 1 << 17, "dim": 1 << 17,
    "n_embd": 1 << 17, "embedding_size": 1 << 17, "intermediate_size": 1 << 20, "hidden_dim": 1 << 20,
    "n_inner": 1 << 20, "vocab_size": 1 << 24, "max_position_embeddings": 1 << 25, "n_positions": 1 << 25,
    "type_vocab_size": 1 << 20, "image_size": 1 << 14, "patch_size": 1 << 14, "num_channels": 1 << 10,
}  # fmt: skip
"""Fields that count something, and the most that they may: far above any model's, far below what memory would take."""
MAY_BE_ZERO = ("type_vocab_size",)
COUNTED_FROM_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")
"""Model types that number positions from the id of the padding token."""
FOREIGN = (
    OSError, ValueError, RuntimeError, TypeError, AttributeError, AssertionError, ArithmeticError, ImportError,
    IndexError,
)  # fmt: skip
"""What transformers raises over a config that it does not understand, whatever it says of it."""


def read_config(base_id: str, folder: Path) -> JsonObject:
    """The fields of a base's `config.json` that describe the model.

    Args:
        base_id: the base as messages call it.
        folder: where it lies.

    Raises:
        InputError: it is missing or damaged, or counts what no model has.
        UnsupportedError: it describes a model that is not served.
    """
    values = read_object(folder / CONFIG_JSON, InputError, "restore the base's own config.json")
    for name in OVERRULED:
        values.pop(name, None)
    kind = values.get("model_type")
    if not isinstance(kind, str):
        raise InputError(f"{base_id}: no usable config.json (model_type is {kind!r:.80}, not a name)")
    for name, why in OTHER_MODEL.items():
        if values.get(name):
            raise UnsupportedError(f"{base_id}: config.json has {name} {values[name]!r:.80}: {why}")
    for name, most in COUNTS.items():
        _check_count(base_id, name, values.get(name), most)
    if kind in COUNTED_FROM_PADDING and "pad_token_id" in values and values["pad_token_id"] is None:
        raise InputError(
            f"{base_id}: config.json has pad_token_id null, but {kind} numbers positions from it; restore the base's "
            "own (1 in most of its kind)"
        )
    _check_padding(base_id, values)
    return values


def make_config(base_id: str, folder: Path, settings: Mapping[str, object]) -> tuple[ModelConfig, dict[str, Any]]:
    """The transformers config of a base, and the settings that are not for it but for the model.

    Args:
        base_id: the base as messages call it.
        folder: where it lies.
        settings: fields to change, as `from_pretrained` takes them.

    Raises:
        InputError: transformers cannot read it.
        UnsupportedError: it describes a model that is not served.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING

    from finegates_export.families import family_of

    values = read_config(base_id, folder)
    kind = values["model_type"]
    if kind not in CONFIG_MAPPING:
        family_of(kind)  # tells what is supported
        raise InputError(f"{base_id}: no usable config.json (transformers has no model type {kind!r:.80})")
    try:
        made = CONFIG_MAPPING[kind].from_dict(values, return_unused_kwargs=True, **settings)
        config, rest = made
        config.name_or_path = str(folder)
    except (*FOREIGN, KeyError, StrictDataclassError) as error:
        raise InputError(f"{base_id}: no usable config.json ({one_line(error)})") from error
    return config, dict(rest)


def stored_quantized(config: ModelConfig) -> str | None:
    """Why a base with quantized weights is refused: gates and LoRA are folded into floats."""
    for name in QUANTIZED:
        settings = getattr(config, name, None)
        if not settings:
            continue
        method = settings.get("quant_method") if isinstance(settings, dict) else None
        if method != FLOATS_WHEN_LOADED:
            return (
                f"its weights are stored quantized ({method or f'{name} in config.json'!s:.80}); use the unquantized "
                "base, and let the export quantize (--quantize)"
            )
    return None


def one_line(error: BaseException) -> str:
    """What an error of another library says, on one line that ends."""
    text = " ".join(str(error).split())
    return text[:300] if text else type(error).__name__


def _check_count(base_id: str, name: str, value: Any, most: int) -> None:
    if value is None:
        return
    sides = value if isinstance(value, list) and name in ("image_size", "patch_size") else [value]
    least = 0 if name in MAY_BE_ZERO else 1
    for side in sides:
        if type(side) is int and not least <= side <= most:
            raise InputError(
                f"{base_id}: config.json has {name} {side:,}, which is not in {least} to {most:,}; restore the base's "
                "own config.json"
            )


def _check_padding(base_id: str, values: JsonObject) -> None:
    pad, words = values.get("pad_token_id"), values.get("vocab_size")
    if type(pad) is int and type(words) is int and not -words <= pad < words:
        raise InputError(
            f"{base_id}: config.json has pad_token_id {pad:,}, but vocab_size {words:,}; restore the base's own "
            "config.json"
        )
