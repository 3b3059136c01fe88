"""Tiny models of every family: every parameter drawn at random, so that nothing can be lost without being seen.

At transformers' defaults biases are 0 and norms are 1: a lost one would change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from finegates_export.families import family_of

MAX_LENGTH = 32
"""Tokens of a row at most; the models take twice as many positions."""
VOCABULARY = 64
IMAGE, PATCH = 16, 4
WINDOW = 8
"""Tokens that local layers see (ModernBERT, Mistral, Qwen2)."""
TABLES = ("embeddings", "embed_tokens", "wte", "wpe")
"""Names of what looks up tokens and positions."""
DEFAULT_SHAPE = {"hidden": 32, "layers": 2, "heads": 4, "intermediate": 64}


def tiny_config(
    variant: str, *, labels: int = 3, activation: str = "gelu", positions: int = 2 * MAX_LENGTH, **shape: int
) -> Any:
    """The config of one variant of a family (see `VARIANTS`).

    Args:
        variant: a key of `VARIANTS`.
        labels: outputs of the head.
        activation: of the feed-forward network, by transformers' name.
        positions: the longest sequence.
        shape: hidden, layers, heads, intermediate where not `DEFAULT_SHAPE`.
    """
    whole = {**DEFAULT_SHAPE, **shape}
    common = {
        "hidden_size": whole["hidden"],
        "num_hidden_layers": whole["layers"],
        "num_attention_heads": whole["heads"],
        "intermediate_size": whole["intermediate"],
        "hidden_act": activation,
        "num_labels": labels,
    }
    return VARIANTS[variant](common, positions)


def _text(name: str, offset: int = 0, **more: Any) -> Callable[[dict[str, Any], int], Any]:
    def make(common: dict[str, Any], positions: int) -> Any:
        import transformers

        return getattr(transformers, name)(
            **common, vocab_size=VOCABULARY, max_position_embeddings=positions + offset, pad_token_id=0, **more
        )

    return make


def _distilbert(common: dict[str, Any], positions: int) -> Any:
    from transformers import DistilBertConfig

    return DistilBertConfig(
        dim=common["hidden_size"], n_layers=common["num_hidden_layers"], n_heads=common["num_attention_heads"],
        hidden_dim=common["intermediate_size"], activation=common["hidden_act"], num_labels=common["num_labels"],
        vocab_size=VOCABULARY, max_position_embeddings=positions, pad_token_id=0,
    )  # fmt: skip


def _modernbert(common: dict[str, Any], positions: int) -> Any:
    from transformers import ModernBertConfig

    activation = common.pop("hidden_act")
    return ModernBertConfig(
        **common, hidden_activation=activation, vocab_size=VOCABULARY, max_position_embeddings=positions,
        local_attention=WINDOW, global_attn_every_n_layers=2, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        cls_token_id=1, sep_token_id=2,
    )  # fmt: skip


def _deberta(**more: Any) -> Callable[[dict[str, Any], int], Any]:
    return _text("DebertaV2Config", relative_attention=True, pos_att_type=["c2p", "p2c"], position_buckets=8, **more)


def _decoder(name: str, **more: Any) -> Callable[[dict[str, Any], int], Any]:
    def make(common: dict[str, Any], positions: int) -> Any:
        import transformers

        return getattr(transformers, name)(
            **common, vocab_size=VOCABULARY, max_position_embeddings=positions, pad_token_id=0, bos_token_id=2,
            eos_token_id=3, num_key_value_heads=common["num_attention_heads"] // 2, **more,
        )  # fmt: skip

    return make


def _gpt2(common: dict[str, Any], positions: int) -> Any:
    from transformers import GPT2Config

    return GPT2Config(
        n_embd=common["hidden_size"], n_layer=common["num_hidden_layers"], n_head=common["num_attention_heads"],
        n_inner=common["intermediate_size"], activation_function=common["hidden_act"], num_labels=common["num_labels"],
        vocab_size=VOCABULARY, n_positions=positions, pad_token_id=0, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip


def _image(name: str) -> Callable[[dict[str, Any], int], Any]:
    def make(common: dict[str, Any], _positions: int) -> Any:
        import transformers

        config = getattr(transformers, f"{name}Config")(**common, image_size=IMAGE, patch_size=PATCH)
        config.architectures = [f"{name}ForImageClassification"]
        return config

    return make


DECODER_VARIANTS: dict[str, Callable[[dict[str, Any], int], Any]] = {
    "llama": _decoder("LlamaConfig"),
    "mistral": _decoder("MistralConfig", sliding_window=WINDOW),
    "qwen2": _decoder(
        "Qwen2Config", use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1, tie_word_embeddings=True
    ),
    "qwen3": _decoder("Qwen3Config", head_dim=12, tie_word_embeddings=True),
    "gemma": _decoder("GemmaConfig", head_dim=12),
    "gpt2": _gpt2,
}
"""Every family of decoders: two query heads to a KV head, but for GPT-2; windows, biases, norms, tied embeddings."""
VARIANTS: dict[str, Callable[[dict[str, Any], int], Any]] = {
    "bert": _text("BertConfig"),
    "roberta": _text("RobertaConfig", offset=1),
    "xlm-roberta": _text("XLMRobertaConfig", offset=1),
    "camembert": _text("CamembertConfig", offset=1),
    "distilbert": _distilbert,
    "electra": _text("ElectraConfig", embedding_size=24),
    "mpnet": _text("MPNetConfig", offset=2),
    "modernbert": _modernbert,
    "deberta-v3": _deberta(
        share_att_key=True, norm_rel_ebd="layer_norm", position_biased_input=False, type_vocab_size=0
    ),
    "deberta-own": _deberta(share_att_key=False, norm_rel_ebd="none", type_vocab_size=2),
    "vit": _image("ViT"),
    "deit": _image("DeiT"),
    **DECODER_VARIANTS,
}
"""Every family, and every variant of one that takes another way through the code."""
ENCODER_VARIANTS = tuple(name for name in VARIANTS if name not in DECODER_VARIANTS)
FAMILY_VARIANTS = tuple(name for name in VARIANTS if name not in ("xlm-roberta", "camembert"))
"""One variant per way through the code: the two that are left out differ from RoBERTa by their names alone."""
ENCODER_FAMILIES = tuple(name for name in FAMILY_VARIANTS if name in ENCODER_VARIANTS)
TRACED_VARIANTS = (*ENCODER_FAMILIES, "qwen3", "gpt2")
"""For tests that write graphs, which takes seconds: of the decoders those that differ most."""
IMAGE_VARIANTS = ("vit", "deit")


def tiny_model(variant: str = "bert", *, seed: int = 0, generator: bool = False, **config: Any) -> Any:
    """A classifier of one variant in memory (a decoder with its LM head by `generator`), in evaluation mode."""
    model = stored_model(variant, seed=seed, generator=generator, **config)
    family_of(model.config.model_type).make_linears(model)
    return model


def stored_model(variant: str, *, seed: int = 0, generator: bool = False, **config: Any) -> Any:
    """See `tiny_model`; as transformers makes it, which is how it can be saved."""
    import transformers

    made = tiny_config(variant, **config)
    auto = "AutoModelForImageClassification" if variant in IMAGE_VARIANTS else "AutoModelForSequenceClassification"
    model = getattr(transformers, "AutoModelForCausalLM" if generator else auto).from_config(made)
    redraw(model, seed)
    return model.eval()


@torch.no_grad()
def redraw(model: nn.Module, seed: int) -> None:
    """Draw every parameter anew: matrices keep activations at their scale, biases and norms are far from 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    norms = {name for name, module in model.named_modules() if "Norm" in type(module).__name__}
    transposed = {name for name, module in model.named_modules() if type(module).__name__ == "Conv1D"}
    for name, parameter in model.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator)
        owner, _, kind = name.rpartition(".")
        if owner in norms and kind == "weight":
            parameter.copy_(1 + 0.3 * drawn)
        elif any(table in name for table in TABLES) and parameter.dim() == 2:
            parameter.copy_(drawn)
        elif "lora_magnitude_vector" in name:
            parameter.mul_(1 + 0.2 * drawn.clamp(-2, 2))
        elif parameter.dim() >= 2:
            fan_in = len(parameter) if owner in transposed else parameter[0].numel()
            parameter.copy_((0.5 if "lora_" in name else 1.0) * drawn / fan_in**0.5)
        else:
            parameter.copy_(0.4 * drawn)
