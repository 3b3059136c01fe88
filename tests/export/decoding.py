"""A decoder's logits in one go and step by step with transformers' cache, on rows of mixed lengths padded left."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finegates_export.pruning.plan import ShrinkPlan
from finegates_export.pruning.planner import make_plan
from finegates_export.pruning.shrink import shrink
from finegates_export.pruning.widths import Widths
from tests.export.compare import Array, structure_of

LENGTH, STEPS = 20, (0, 9, 10, 15, 20)
"""Tokens of a row, and where each call ends: a prompt longer than the windows, one token, several."""
LEFT_PADDING = (0, 5, 17)


def rows(seed: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and positions, shape (rows, LENGTH) each."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, 64, (len(LEFT_PADDING), LENGTH), generator=generator)
    mask = (torch.arange(LENGTH) >= torch.tensor(LEFT_PADDING)[:, None]).long()
    return ids * mask, mask, (mask.cumsum(1) - 1).clamp(min=0)


@torch.no_grad()
def logits(model: Any, *, cached: bool = False, placed: bool = True) -> Array:
    """Logits at every attended token, shape (tokens, vocabulary).

    Args:
        model: with an LM head.
        cached: step by step, each step given what the cache does not hold.
        placed: whether positions are given; transformers counts them from the start of the row otherwise.
    """
    from transformers import DynamicCache

    ids, mask, positions = rows()
    cache = DynamicCache(config=model.config) if cached else None
    parts = []
    for start, end in pairwise(STEPS) if cached else [(0, LENGTH)]:
        given = {"position_ids": positions[:, start:end]} if placed else {}
        given |= {"input_ids": ids[:, start:end], "attention_mask": mask[:, :end]}
        parts.append(model(**given, past_key_values=cache, use_cache=cached).logits)
    found: Array = torch.cat(parts, 1)[mask.bool()].numpy()
    return found


def apart(one: Array, other: Array) -> float:
    """The largest difference, as a share of the first's scale."""
    return float(np.abs(one - other).max() / np.abs(one).max())


def cut(model: Any, change: Any = lambda plan: plan) -> tuple[Any, ShrinkPlan]:
    """Plan and shrink a plain model in place; `change` is where a mutation of the plan goes."""
    structure = structure_of(model)
    plan = change(make_plan(model, structure, Widths()))
    return shrink(model, structure, plan), plan
