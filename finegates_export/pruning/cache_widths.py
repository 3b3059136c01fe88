"""The cache layout of an unpruned and of a shrunk decoder."""

from __future__ import annotations

from finegates_export.common.cache_layout import CacheLayout, LayerCache
from finegates_export.families.structure import Structure
from finegates_export.pruning.plan import ShrinkPlan


def unpruned_cache(structure: Structure) -> CacheLayout:
    """The cache of an unpruned model."""
    maps = [(layer.index, layer.attention) for layer in structure.layers]
    return CacheLayout(len(maps), tuple(LayerCache(i, one.heads, one.head_dim, one.head_dim) for i, one in maps))


def shrunk_cache(plan: ShrinkPlan) -> CacheLayout:
    """The cache of a shrunk model."""
    kept = [(layer.layer, layer.attention) for layer in plan.layers if layer.attention.heads]
    layers = tuple(LayerCache(i, len(one.heads), one.qk_width, one.vo_width) for i, one in kept)
    return CacheLayout(len(plan.layers), layers)
