"""Makes the objective from the options, with its measurements if it needs any."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from finegates_export.common.tasks import task_of
from finegates_export.graphs.targets import TARGETS
from finegates_trainer.objectives.budget import ShareBudget
from finegates_trainer.objectives.magnitude import MagnitudeObjective
from finegates_trainer.objectives.objective import Objective
from finegates_trainer.objectives.penalty import PenaltyObjective
from finegates_trainer.objectives.sensitivity import SensitivityObjective
from finegates_trainer.objectives.share import ShareObjective
from finegates_trainer.objectives.target import TargetObjective

if TYPE_CHECKING:
    from finegates_export.costs.counted_costs import Phase
    from finegates_trainer.running.setup import Training


OnMain = Callable[[Callable[[], Any]], Any]
"""Computes something in one process of the run and shares it with the others."""


def make_objective(training: Training, on_main: OnMain) -> Objective:
    """The objective of a run.

    Args:
        training: the prepared run.
        on_main: runs measurements in one process, since parallel measurements disturb each other.

    Raises:
        InputError: a speed-up that cannot be reached.
        MeasurementError: the measuring process failed.
    """
    options, gated = training.options, training.gated
    target = TARGETS[options.target]
    # Decoding is limited by reading weights, and the paper's layout has no gates on heads: both allow any width.
    any_width = task_of(options.task).generates or options.layout == "matrix"
    widths = target.WIDTHS if any_width else target.SETTLED_WIDTHS
    bank, structure, sigma = gated.gates, training.structure, options.penalty_sigma
    if options.target_speedup:
        return _latency(training, on_main)
    if options.objective == "penalty":
        return PenaltyObjective(bank, structure, widths, sigma, options.gate_weight)
    if options.objective == "target":
        return TargetObjective(bank, structure, widths, sigma, options.gate_weight)
    if options.objective == "sensitivity":
        return SensitivityObjective(bank, ShareBudget(structure, widths))
    if options.objective == "magnitude":
        return MagnitudeObjective(gated, widths)
    return ShareObjective(bank, structure, widths, sigma)


def _latency(training: Training, on_main: OnMain) -> Objective:
    from finegates_export.common.shapes import Shape
    from finegates_export.costs.counted_costs import counted_costs
    from finegates_export.costs.layer_costs import measure_layer_costs
    from finegates_export.costs.speed_probe import SpeedProbe
    from finegates_trainer.objectives.latency import LatencyObjective
    from finegates_trainer.objectives.speed_budget import SpeedBudget, check_reachable

    options = training.options
    shape, threads = Shape.parse(options.shape), options.threads or torch.get_num_threads()
    phase: Phase = options.phase if task_of(options.task).generates else "prefill"
    probe = SpeedProbe(
        training.base, options.task, training.labels, training.pooling, target=options.target, shape=shape,
        phase=phase, threads=threads,
    )  # fmt: skip

    def measure() -> tuple[Any, Any]:
        costs: Any
        if training.family.causal:
            costs = probe.timed(counted_costs(training.structure, shape, phase))
        else:
            config = training.base.config()
            costs = measure_layer_costs(training.family, config, shape, target=options.target, threads=threads)
        return costs, probe.anchor(costs)

    costs, anchor = on_main(measure)
    check_reachable(anchor, options.target_speedup, options.shape)
    budget = SpeedBudget(training.structure, TARGETS[options.target].WIDTHS, costs, anchor, probe)
    if options.objective == "sensitivity":
        return SensitivityObjective(training.gated.gates, budget)
    return LatencyObjective(training.gated.gates, options.penalty_sigma, budget)
