"""A run at any removed share without training: units closed by weight magnitude, on the untrained base.

Its predictions mean nothing, its widths and so its latency are what training at that share would give or come near.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_bench.levels import Candidate
from finegates_bench.results import Kind
from finegates_export.gates.run_folder import Run, read_run, write_run

if TYPE_CHECKING:
    from finegates_export.families.base import BaseModel
    from finegates_export.gates.settle import Widths

LAYOUT = "coupled"


class WhatIf:
    """Closes a run's base to any share.

    Args:
        run: whose base, task and head are used; its gates and adapter are not.
        base: its base.
        widths: the widths that the target likes.
    """

    def __init__(self, run: Run, base: BaseModel, widths: Widths) -> None:
        from finegates_export.magnitude import magnitude_scores

        self.run, self.widths = run, widths
        self.structure = base.family().structure(base.config())
        self.scores = magnitude_scores(base.load(run.info.task, run.info.labels, run.info.pooled_by()), self.structure)

    def write(self, share: float, folder: Path, kind: Kind = "what-if") -> Candidate:
        """Write the run folder of one removed share.

        Args:
            share: what to remove of the layers' linear weights, 0 to 1.
            folder: where the run folder goes.
            kind: `unpruned` where it stands in for a trained unpruned model.

        Raises:
            InputError: the share cannot be settled.
        """
        import torch

        from finegates_export.gates.bank import GateBank
        from finegates_export.gates.layout import build_layout
        from finegates_export.gates.settle import settle

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
        write_run(folder, info, gates=gates.vectors(), head=self.run.head, samples=self.run.samples)
        name = "unpruned" if kind == "unpruned" else f"what-if-{share:g}"
        return Candidate(name, kind, False, read_run(folder), asked=share)
