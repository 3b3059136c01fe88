"""One file per architecture family, and the look-up by `model_type`."""

from __future__ import annotations

from finegates_export.errors import UnsupportedError
from finegates_export.families.bert import Bert, Electra
from finegates_export.families.deberta import Deberta
from finegates_export.families.distilbert import DistilBert
from finegates_export.families.family import Family
from finegates_export.families.gpt2 import GPT2
from finegates_export.families.llama import Gemma, Llama, Mistral, Qwen2, Qwen3
from finegates_export.families.modernbert import ModernBert
from finegates_export.families.mpnet import MPNet
from finegates_export.families.roberta import Roberta
from finegates_export.families.vit import DeiT, ViT

FAMILIES: tuple[Family, ...] = (
    Bert(), Roberta(), DistilBert(), Electra(), MPNet(), ModernBert(), Deberta(), ViT(), DeiT(),
    Llama(), Mistral(), Qwen2(), Qwen3(), Gemma(), GPT2(),
)  # fmt: skip

REFUSED = {
    "albert": "all its layers share one set of weights, so closing a unit in one would close it in every other",
}
"""Model types that are close to a family but not supported, with the reason."""


def family_of(model_type: str) -> Family:
    """The family of a config's `model_type`.

    Raises:
        UnsupportedError: there is none; the message lists the supported ones.
    """
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    supported = ", ".join(sorted(name for family in FAMILIES for name in family.model_types))
    if model_type in REFUSED:
        raise UnsupportedError(
            f"model type {model_type!r} is not supported: {REFUSED[model_type]}; supported are: {supported}"
        )
    raise UnsupportedError(f"model type {model_type!r} is not supported; supported are: {supported}")
