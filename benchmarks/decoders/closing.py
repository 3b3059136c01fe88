"""Run folders of a decoder at removed shares, closed without training but with an eye on a text.

A unit weighs what it hands on: the norm of its columns of the output matrix times the norm of what flows into them on
the text. Whole groups of heads that share keys and values go, and feed-forward neurons, both to the same share.

Shapes: N tokens of the text, C columns of an output matrix.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from finegates_export.common.files import staged_folder

TASK = "text-generation"
LENGTH, ROWS = 256, 4
"""Tokens of a row that is read for the norms, and how many are."""
SAMPLE_LENGTH, SAMPLES = 64, 4
"""Rows that a run keeps for the chain of checks."""
MULTIPLE = 16
"""Neurons go by so many, layer by layer; the rest of the share goes neuron by neuron."""
LEAST_GROUPS = 1
"""Groups of heads that every layer keeps."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Closing:
    """A base whose units are weighed."""

    base: Any
    structure: Any
    text_ids: Array
    """Token ids of the text, shape (N,)."""
    groups: dict[int, Array]
    """By layer what each group of heads hands on, as a share of the layer's."""
    neurons: dict[int, Array]
    """By layer what each neuron hands on."""


def weigh(folder: Path, text: str) -> Closing:
    """Read a base, and what its units hand on when it reads a text.

    Args:
        folder: the base.
        text: long enough for `ROWS` rows of `LENGTH` tokens.
    """
    import torch

    from finegates_export.sources.base import find_base

    base = find_base(str(folder))
    structure = base.family().structure(base.config())
    model = base.load(TASK, (), None).eval()
    ids = np.asarray(base.tokenizer()(text)["input_ids"])[: ROWS * LENGTH]
    encoder = base.family().encoder(model)
    squares: dict[str, Any] = {}

    def note(name: str, _module: Any, inputs: tuple[Any, ...]) -> None:
        flowed = inputs[0].detach().double().flatten(0, -2).square().sum(0)
        squares[name] = squares.get(name, 0) + flowed

    watched = [name for layer in structure.layers for name in (layer.attention.output, layer.feed_forward.down)]
    handles = [model.get_submodule(name).register_forward_pre_hook(functools.partial(note, name)) for name in watched]
    with torch.no_grad():
        for row in np.array_split(ids, ROWS):
            encoder(input_ids=torch.from_numpy(row[None]))
    for handle in handles:
        handle.remove()
    handed = {
        name: (squares[name] * model.get_submodule(name).weight.detach().double().square().sum(0)).numpy()
        for name in watched
    }
    groups: dict[int, Array] = {}
    for layer in structure.layers:
        _, values, _ = layer.groups()
        by_head = handed[layer.attention.output].reshape(values.axes(values.sides[1])).sum((1, 2, 3))
        groups[layer.index] = by_head / by_head.sum()
    neurons = {layer.index: handed[layer.feed_forward.down] for layer in structure.layers}
    return Closing(base, structure, ids, groups, neurons)


def write_run(closing: Closing, share: float, folder: Path) -> None:
    """Write the run folder of one removed share.

    Args:
        closing: the base, weighed.
        share: of the layers' linear weights; 0: the unpruned model, without gates.
        folder: where it goes.
    """
    import torch

    from finegates_export.gates.bank import GateBank
    from finegates_export.gates.layout import build_layout
    from finegates_export.sources.run_folder import RunInfo
    from finegates_export.sources.run_folder import write_run as write_files

    base, structure = closing.base, closing.structure
    layout = "coupled" if share else "none"
    bank = GateBank(build_layout(layout, structure), structure)
    if share:
        bank.settle({key: torch.from_numpy(mask) for key, mask in kept_units(closing, share).items()})
    info = RunInfo(
        base_id=base.id, base_revision=None, base_tensors=base.tensor_hashes(), family=base.family().name,
        layout=layout, task=TASK, labels=(), max_length=LENGTH, removed=bank.closed_share(), metric="perplexity",
        metrics={}, trained_parameters={}, data={}, options={}, command="benchmarks/decoders/run.py", steps=0,
    )  # fmt: skip
    rows = torch.from_numpy(closing.text_ids[: SAMPLES * SAMPLE_LENGTH].reshape(SAMPLES, SAMPLE_LENGTH).copy())
    samples = {"input_ids": rows, "attention_mask": torch.ones_like(rows), "labels": rows.clone()}
    with staged_folder(folder, overwrite=True) as stage:
        base.tokenizer().save_pretrained(stage)
        write_files(stage, info, gates=bank.vectors() if share else {}, head={}, samples=samples)


def kept_units(closing: Closing, share: float) -> dict[tuple[int, str], Array]:
    """Masks of the units that stay, by layer and kind."""
    heads = _kept_groups(closing.groups, share)
    keep: dict[tuple[int, str], Array] = {}
    spent = 0
    for layer in closing.structure.layers:
        for group in layer.groups()[:2]:
            keep[layer.index, group.kind] = np.repeat(heads[layer.index], group.width)
            spent += int(keep[layer.index, group.kind].sum()) * group.unit_weights
    neuron = closing.structure.layers[0].groups()[2]
    budget = (1 - share) * closing.structure.linear_weights / closing.structure.hidden_size - spent
    layers = len(closing.structure.layers)
    counts = _spread(round(budget / neuron.unit_weights), layers)
    for layer, count in zip(closing.structure.layers, counts, strict=True):
        scores = closing.neurons[layer.index]
        mask = np.zeros(len(scores), bool)
        mask[np.argsort(-scores, kind="stable")[: min(count, len(scores))]] = True
        keep[layer.index, "ffn"] = mask
    return keep


def _kept_groups(scores: dict[int, Array], share: float) -> dict[int, Array]:
    """Close the lightest groups of heads, but for the last ones of a layer."""
    kept = {layer: np.ones(len(values), bool) for layer, values in scores.items()}
    left = round(share * sum(map(len, scores.values())))
    places = [(float(value), layer, head) for layer, values in scores.items() for head, value in enumerate(values)]
    for _, layer, head in sorted(places):
        if left and kept[layer].sum() > LEAST_GROUPS:
            kept[layer][head] = False
            left -= 1
    return kept


def _spread(total: int, layers: int) -> Sequence[int]:
    """So many neurons over the layers, as equal as multiples allow."""
    steps, rest = divmod(total, MULTIPLE)
    counts = [MULTIPLE * (steps // layers + (layer < steps % layers)) for layer in range(layers)]
    counts[-1] += rest
    return counts
