"""A plain training loop for models that were pruned: task loss, and the unpruned model's logits as a second teacher.

Shapes: B rows, C labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from contract import Arguments, Array, all_logits, read_rows, trimmed
from torch import Tensor
from torch.nn import functional
from torch_model import torch_forward


@dataclass(frozen=True)
class Recipe:
    """How to learn: what is common for all weights of a BERT."""

    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup: float = 0.06
    """Share of the steps over which the rate rises; it falls to 0 over the rest."""
    batch: int = 32
    evaluations: int = 20
    """How often evaluation rows are looked at; the best state is kept."""
    temperature: float = 2.0
    """At which logits are compared with the teacher's."""


def learn(model: Any, teacher: Any, arguments: Arguments, recipe: Recipe | None = None) -> None:
    """Train all weights for `arguments.steps` steps, and leave the state that was best on the evaluation rows.

    Args:
        model: the pruned model.
        teacher: the unpruned model.
        arguments: the script's.
        recipe: the usual one by default.
    """
    recipe = recipe or Recipe()
    torch.manual_seed(arguments.seed)
    inputs, labels_B = read_rows(arguments.rows, "train")
    optimizer = torch.optim.AdamW(
        model.requires_grad_(True).parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _factor(step, arguments.steps, recipe.warmup))
    every = max(1, arguments.steps // recipe.evaluations)
    best, best_state = -1.0, {}
    for step, rows in enumerate(_batches(len(labels_B), recipe.batch, arguments.steps, arguments.seed), start=1):
        model.train()
        batch = {name: torch.from_numpy(values) for name, values in trimmed(inputs, rows).items()}
        with torch.no_grad():
            theirs_BC = teacher(**batch).logits
        mine_BC = model(**batch).logits
        loss = functional.cross_entropy(mine_BC, torch.from_numpy(labels_B[rows]))
        loss = loss + _divergence(mine_BC, theirs_BC, recipe.temperature)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        if step % every == 0 or step == arguments.steps:
            reached = accuracy(model, arguments)
            if reached > best:
                best, best_state = reached, {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(best_state)
    model.requires_grad_(False).eval()


def accuracy(model: Any, arguments: Arguments) -> float:
    """The share of evaluation rows whose label a model predicts."""
    inputs, labels_B = read_rows(arguments.rows, "eval")
    return float((all_logits(torch_forward(model.eval()), inputs).argmax(-1) == labels_B).mean())


def _batches(rows: int, batch: int, steps: int, seed: int) -> Iterator[Array]:
    """Row numbers, `steps` times, drawn afresh for every pass over the rows."""
    generator = np.random.default_rng(seed)
    done = 0
    while True:
        order = generator.permutation(rows)
        for start in range(0, rows, batch):
            if done == steps:
                return
            yield order[start : start + batch]
            done += 1


def _factor(step: int, steps: int, warmup: float) -> float:
    rising = max(1, round(warmup * steps))
    return (step + 1) / rising if step < rising else (steps - step) / max(1, steps - rising)


def _divergence(mine_BC: Tensor, theirs_BC: Tensor, heat: float) -> Tensor:
    """KL of softened distributions times the squared temperature (Hinton et al., 2015), the mean over rows."""
    logs = (functional.log_softmax(logits_BC / heat, -1) for logits_BC in (mine_BC, theirs_BC))
    return heat**2 * functional.kl_div(*logs, reduction="batchmean", log_target=True)
