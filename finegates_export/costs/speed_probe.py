"""The speed-up of a whole model with given units closed: exported, and timed against the unpruned one.

with SpeedProbe(base, "classification", labels, None, shape=Shape(8, 128), threads=2) as probe:
    probe.speedup(keep).median

Weights do not affect time, so nothing needs to be trained.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from finegates_export.common.shapes import Shape
from finegates_export.common.tasks import PIXELS, task_of
from finegates_export.costs.counted_costs import CountedCosts, Phase, SublayerCosts
from finegates_export.costs.model_widths import Mask, ModelWidths
from finegates_export.costs.timing.model_times import Rounds, time_models
from finegates_export.costs.timing.model_worker import ModelSpec
from finegates_export.costs.timing.statistics import Interval, process_ratio
from finegates_export.costs.timing.timer import Budget
from finegates_export.errors import InputError
from finegates_export.gates.layout import UnitKey
from finegates_export.graphs.targets import TARGETS

if TYPE_CHECKING:
    from torch import nn

    from finegates_export.common.tasks.pooling import Pooling
    from finegates_export.pruning.plan import ShrinkPlan
    from finegates_export.sources.base import BaseModel

NANOSECONDS_PER_MS = 1e6
UNPRUNED, PRUNED = "unpruned", "pruned"
FEWEST_PROCESSES = 6
"""Least number of fresh processes per comparison: each has its own bias, which its rounds do not show."""
ROUNDS, SECONDS = 8, 12.0
"""Least seconds per process: together they outlast slow spells of a virtual machine."""
HALF_WIDTH = 0.015
"""Processes continue until the half width of the speed-up's 95 % interval is below this share, or time is over."""
DEFAULT_SHAPE = Shape(8, 128)


@dataclass(frozen=True)
class Anchor:
    """The link between a table of layer costs and the whole model, in milliseconds."""

    unpruned: float
    """The whole unpruned model."""
    rest: float
    """Time besides the layers' halves: embeddings, norms, head."""
    factor: float = 1.0
    """Factor on the table's milliseconds that makes the prediction for the unpruned model exact."""

    def milliseconds(self, layers_ms: float) -> float:
        """Time of the whole model, given its halves' cost in the table."""
        return self.rest + self.factor * layers_ms

    def speedup(self, layers_ms: float) -> float:
        """Its speed-up over the unpruned model."""
        return self.unpruned / self.milliseconds(layers_ms)

    def layers_ms_for(self, speedup: float) -> float:
        """The halves' budget in the table for a speed-up; negative if it is out of reach."""
        return (self.unpruned / speedup - self.rest) / self.factor


def anchored(unpruned: float, least_speedup: float, whole_ms: float, least_ms: float) -> Anchor:
    """The anchor from two whole models: the unpruned one, and the smallest one that still has an attention mask.

    Args:
        unpruned: milliseconds of the unpruned model.
        least_speedup: speed-up of the smallest one.
        whole_ms: cost of the unpruned model's halves in the table.
        least_ms: cost of the smallest model's halves.
    """
    rest = max(0.0, unpruned / least_speedup - least_ms)
    return Anchor(unpruned, rest, (unpruned - rest) / whole_ms)


class SpeedProbe:
    """Exports and times models of one base; results are remembered.

    Args:
        base: the base.
        task: a name of `TASKS`.
        labels: label names; empty for tasks without.
        pooling: how to pool the hidden state into an embedding.
        target: whose graphs are written.
        shape: the input; for text generation, the prompt, or the rows and the tokens after which one is written.
        phase: for text generation, which of the two.
        threads: CPU threads.
        seconds: time after which a comparison starts no further process, not counting the export.
        processes: least number of fresh processes.
        seed: seed of inputs and orders.

    Raises:
        InputError: the model cannot take sequences of that length.
    """

    def __init__(
        self,
        base: BaseModel,
        task: str,
        labels: tuple[str, ...],
        pooling: Pooling | None = None,
        *,
        target: str = "ort-cpu",
        shape: Shape = DEFAULT_SHAPE,
        phase: Phase = "prefill",
        threads: int = 2,
        seconds: float = 120.0,
        processes: int = FEWEST_PROCESSES,
        seed: int = 0,
    ) -> None:
        self.base, self.task, self.labels, self.pooling = base, task_of(task), labels, pooling
        self.target, self.shape, self.threads, self.seed = TARGETS[target], shape, threads, seed
        self.seconds, self.processes = seconds, processes
        self.past = shape.sequence if phase == "decode" else 0
        self.new = 1 if phase == "decode" else shape.sequence
        self.config, self.family = base.config(), base.family()
        self.structure = self.family.structure(self.config)
        self.names = self.family.input_names(self.config)
        longest = self.family.max_length(self.config)
        if self.past + self.new > longest or (self.names == (PIXELS,) and shape.sequence != longest):
            raise InputError(
                f"shape {shape} does not fit {base.id}, whose sequences have {longest} tokens (images exactly, text at "
                "most, with what is written); choose another shape"
            )
        self._scratch = tempfile.TemporaryDirectory(prefix="finegates-probe-")
        self._times: dict[ModelWidths, list[Rounds]] = {}

    def speedup(self, keep: Mapping[UnitKey, Mask], *, anew: bool = False) -> Interval:
        """The unpruned model's time over that of the model with these units.

        Args:
            keep: per unit group a mask of shape (units,): True stays.
            anew: measure again, even if the result is known.

        Raises:
            ChainError: a graph lacks a linear, or its weights differ from the plan.
            FusionError: the target fused fewer nodes than the family promises.
            MeasurementError: the measuring process failed.
        """
        return _speedup(self._measured(keep, anew=anew))

    def unpruned_milliseconds(self) -> float:
        """Milliseconds of the unpruned model, in the rounds of `rest_milliseconds`."""
        rounds = [one for process in self._measured(self.least()) for one in process[UNPRUNED]]
        return float(np.median(rounds)) / NANOSECONDS_PER_MS

    def timed(self, costs: Sequence[CountedCosts]) -> tuple[CountedCosts, ...]:
        """Counted costs in milliseconds, scaled by the times of the unpruned and the smallest model.

        Args:
            costs: one per layer, in bytes or operations.
        """
        unpruned = self.unpruned_milliseconds()
        saved = unpruned * (1.0 - 1.0 / self.speedup(self.least()).median)
        whole, least = self._halves(costs)
        each = max(saved / (whole - least), float(np.finfo(np.float32).tiny))
        scaled = {id(one): one.times(each) for one in costs}
        return tuple(scaled[id(one)] for one in costs)

    def rest_milliseconds(self, costs: Sequence[SublayerCosts]) -> float:
        """A model's time besides its layers' halves; see `anchored`.

        Args:
            costs: one per layer.
        """
        return self.anchor(costs).rest

    def anchor(self, costs: Sequence[SublayerCosts]) -> Anchor:
        """The anchor that turns the table's milliseconds into a whole model's.

        Args:
            costs: one per layer.
        """
        return anchored(self.unpruned_milliseconds(), self.speedup(self.least()).median, *self._halves(costs))

    def close(self) -> None:
        """Remove the exported graphs."""
        self._scratch.cleanup()

    def __enter__(self) -> SpeedProbe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def least(self) -> dict[UnitKey, Mask]:
        """Masks of the smallest model that still has an attention mask: one head of one dim in the first layer."""
        keep: dict[UnitKey, Mask] = {
            (group.layer, group.kind): np.zeros(group.size, bool) for group in self.structure.groups()
        }
        for kind in ("qk", "vo"):
            keep[self.structure.layers[0].index, kind][0] = True
        return keep

    def _halves(self, costs: Sequence[SublayerCosts]) -> tuple[float, float]:
        """The costs of the unpruned and the smallest model's halves."""
        everything = {(group.layer, group.kind): np.ones(group.size, bool) for group in self.structure.groups()}
        whole, least = (
            ModelWidths.of(keep, self.structure, self.target.WIDTHS).layers_ms(costs)
            for keep in (everything, self.least())
        )
        return whole, least

    def _measured(self, keep: Mapping[UnitKey, Mask], *, anew: bool = False) -> list[Rounds]:
        """The rounds of each process."""
        widths = ModelWidths.of(keep, self.structure, self.target.WIDTHS)
        if anew or widths not in self._times:
            folder = Path(self._scratch.name)
            graphs = {UNPRUNED: folder / f"{UNPRUNED}.onnx", PRUNED: folder / f"{PRUNED}.onnx"}
            if not graphs[UNPRUNED].is_file():
                self.write(None, graphs[UNPRUNED])
            self.write(keep, graphs[PRUNED])
            times: list[Rounds] = []
            end = time.monotonic() + self.seconds
            while len(times) < self.processes or (
                time.monotonic() < end and _speedup(times).relative_half_width > HALF_WIDTH
            ):
                times.append(time_models(self._spec(graphs, len(times)), folder))
            self._times[widths] = times
        return self._times[widths]

    def _spec(self, graphs: Mapping[str, Path], process: int) -> ModelSpec:
        return ModelSpec(
            graphs={name: str(path) for name, path in graphs.items()},
            batch=self.shape.batch,
            sequence=self.new,
            past=self.past,
            vocab_size=getattr(self.config, "vocab_size", 0),
            threads=self.threads,
            seed=self.seed + process,
            budget=Budget(ROUNDS, min(SECONDS, self.seconds)),
        )

    def write(self, keep: Mapping[UnitKey, Mask] | None, path: Path) -> None:
        """Write the graph of the model with these units, as an export delivers it.

        Args:
            keep: per unit group a mask of shape (units,); None for the unpruned model.
            path: the file.

        Raises:
            ChainError: the graph lacks a linear, or its weights differ from the plan.
            FusionError: the target fused fewer nodes than the family promises.
        """
        from finegates_export.graphs.saving import keep_outputs, save_graph
        from finegates_export.graphs.writer import GraphWriter

        model, plan = self._shrunk(keep)
        writer = GraphWriter(self.family, self.config, self.task, self.target)
        traced = writer.trace(model, plan)
        del model
        save_graph(keep_outputs(writer.finish(traced.graph, plan), writer.outputs(plan)), path)

    def _shrunk(self, keep: Mapping[UnitKey, Mask] | None) -> tuple[nn.Module, ShrinkPlan]:
        import torch

        from finegates_export.gates.gated_model import GatedModel
        from finegates_export.pruning.fold import fold
        from finegates_export.pruning.planner import make_plan
        from finegates_export.pruning.shrink import shrink

        model = self.base.load(self.task.name, self.labels, self.pooling)
        gated = GatedModel(model, self.structure, "none" if keep is None else "coupled").eval()
        if keep is not None:
            gated.gates.settle({key: torch.from_numpy(np.asarray(mask, bool)) for key, mask in keep.items()})
        model = fold(gated)
        plan = make_plan(model, self.structure, self.target.WIDTHS)
        shrink(model, self.structure, plan)
        return model, plan


def _speedup(processes: Sequence[Rounds]) -> Interval:
    """The speed-up over unpruned: the inverse of the ratio in reports."""
    pruned, unpruned = ([rounds[name] for rounds in processes] for name in (PRUNED, UNPRUNED))
    return process_ratio(pruned, unpruned).inverse()
