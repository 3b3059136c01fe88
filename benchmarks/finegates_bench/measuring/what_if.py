"""A run at any removed share without training: the lightest heads and neurons closed, on the untrained base.

Its predictions are meaningless. Whole heads are closed, as mostly in training, and in equal share with neurons, so its
latency is close to that of training at that share.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from finegates_bench.measuring.levels import Candidate
from finegates_bench.measuring.results import Kind
from finegates_export.families.structure import Structure
from finegates_export.gates.layout import UnitKey
from finegates_export.pruning.layer_options import WHOLE_HEADS, Scores
from finegates_export.sources.run_folder import Run, read_run, write_run

if TYPE_CHECKING:
    from finegates_export.pruning.widths import Widths
    from finegates_export.sources.base import BaseModel

LAYOUT = "coupled"


class WhatIf:
    """Closes a run's base to any share.

    Args:
        run: provides base, task and head; its gates and adapter are not used.
        base: its base.
        widths: the widths that the target prefers.
    """

    def __init__(self, run: Run, base: BaseModel, widths: Widths) -> None:
        from finegates_export.pruning.magnitude import magnitude_scores

        self.run, self.widths = run, dataclasses.replace(widths, head_multiple=WHOLE_HEADS)
        self.structure = base.family().structure(base.config())
        model = base.load(run.info.task, run.info.labels, run.info.pooled_by())
        self.scores = ranked(magnitude_scores(model, self.structure), self.structure)

    def write(self, share: float, folder: Path, kind: Kind = "what-if") -> Candidate:
        """Write the run folder of one removed share.

        Args:
            share: share of the layers' linear weights to remove, 0 to 1.
            folder: the destination.
            kind: `unpruned` if it replaces a trained unpruned model.

        Raises:
            InputError: the share cannot be settled.
        """
        import torch

        from finegates_export.gates.bank import GateBank
        from finegates_export.gates.layout import build_layout
        from finegates_export.pruning.settle import settle

        gates = GateBank(build_layout(LAYOUT, self.structure), self.structure)
        keep = settle(self.scores, self.structure, share, self.widths)
        gates.settle({key: torch.from_numpy(mask) for key, mask in keep.items()})
        info = dataclasses.replace(
            self.run.info,
            layout=LAYOUT,
            removed=gates.closed_share(),
            metrics={},
            trained_parameters={},
            options={},
            command=f"finegates_bench: closed to {share} by weight magnitude, not trained",
            steps=0,
            files={},
        )
        folder.mkdir(parents=True, exist_ok=True)
        for file in self.run.companions():
            shutil.copyfile(file, folder / file.name)
        write_run(folder, info, gates=gates.vectors(), head=self.run.head, samples=self.run.samples)
        name = "unpruned" if kind == "unpruned" else f"what-if-{share:g}"
        return Candidate(name, kind, False, read_run(folder), asked=share)


def ranked(magnitudes: Mapping[UnitKey, Scores], structure: Structure) -> dict[UnitKey, Scores]:
    """Ranks instead of magnitudes: the share of heads that a unit's head outweighs, or of neurons for a neuron.

    Args:
        magnitudes: per unit group the norm of each unit, shape (units,).
        structure: the model's units.

    Returns:
        As `magnitudes`, between 0 and 1; all units of a head have its rank.
    """
    layers = [layer.groups() for layer in structure.layers]
    squares = {key: np.square(values) for key, values in magnitudes.items()}
    heads = [
        squares[qk.layer, "qk"].reshape(qk.heads, -1).sum(1) + squares[vo.layer, "vo"].reshape(vo.heads, -1).sum(1)
        for qk, vo, _ in layers
    ]
    neurons = [squares[ffn.layer, "ffn"] for _, _, ffn in layers]
    ranks: dict[UnitKey, Scores] = {}
    for (qk, vo, ffn), of_heads, of_neurons in zip(layers, _ranks(heads), _ranks(neurons), strict=True):
        ranks[qk.layer, "qk"] = np.repeat(of_heads, qk.width)
        ranks[vo.layer, "vo"] = np.repeat(of_heads, vo.width)
        ranks[ffn.layer, "ffn"] = of_neurons
    return ranks


def _ranks(values: list[Scores]) -> list[Scores]:
    """For each value, the share of all values that are not greater."""
    flat = np.concatenate(values)
    ranks = (np.argsort(np.argsort(flat, kind="stable"), kind="stable") + 1) / len(flat)
    return np.split(ranks, np.cumsum([len(part) for part in values])[:-1])
