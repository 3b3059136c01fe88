"""Modules that a shrunk model needs and transformers lacks: heads of any number and width, layer by layer."""

from __future__ import annotations

from finegates_export.families.structure import AttentionKind
from finegates_export.pruning.ragged.attention import Heads, PlainAttention, RaggedAttention
from finegates_export.pruning.ragged.causal import CausalAttention
from finegates_export.pruning.ragged.disentangled import DisentangledAttention
from finegates_export.pruning.ragged.relative import RelativeAttention
from finegates_export.pruning.ragged.rotary import RotaryAttention

ATTENTION: dict[AttentionKind, type[RaggedAttention]] = {
    "plain": PlainAttention,
    "relative": RelativeAttention,
    "rotary": RotaryAttention,
    "disentangled": DisentangledAttention,
    "causal": CausalAttention,
    "causal-rotary": CausalAttention,
}
"""The module that replaces a family's attention after shrinking, by `AttentionMap.kind`."""

__all__ = ["ATTENTION", "Heads", "RaggedAttention"]
