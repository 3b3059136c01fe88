"""The verb `measure`: a run's levels against the unpruned model, exported, timed and scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_bench.measuring.exports import Exported, export_candidate
from finegates_bench.measuring.latency import make_timing, summarize
from finegates_bench.measuring.levels import (
    Candidate,
    baseline_notes,
    other_notes,
    other_runs,
    own_levels,
    unpruned_of,
)
from finegates_bench.measuring.options import BenchOptions
from finegates_bench.measuring.results import REPORT_JSON, BenchReport, ModelResult, Stamp, Timing
from finegates_bench.measuring.stamp import make_stamp
from finegates_export.common.files import check_destination, scratch_folder
from finegates_export.common.shapes import Shape
from finegates_export.common.tasks import PIXELS, task_of
from finegates_export.costs.timing.model_times import Rounds, time_in_processes
from finegates_export.costs.timing.model_worker import ModelSpec
from finegates_export.errors import InputError, UnsupportedError
from finegates_export.runtime.session import chosen_providers
from finegates_export.sources.places import check_run_place
from finegates_export.sources.run_folder import Run, read_info, read_run
from finegates_trainer.data.tables import local_files

if TYPE_CHECKING:
    from finegates_bench.measuring.quality import EvaluationRows
    from finegates_export.sources.base import BaseModel

Say = Callable[[str], None]

SHARE_TOLERANCE = 0.01
"""A what-if level further from its requested share gets a note."""
NO_BASELINE = (
    "No baseline was given: the unpruned model is the run's base, untrained, with all gates open. "
    "Its latency is real, its metric is null."
)


def measure(options: BenchOptions, say: Say | None = None) -> BenchReport:
    """Export every level and the unpruned model, time them in turns, and compute their metric.

    Exported graphs lie in a folder next to `options.out` during the measurement and are removed afterwards; the report
    itself is written by `report`.

    Args:
        options: the measurement.
        say: receives progress, a line at a time; silent by default.

    Raises:
        ChainError: a model could not be exported without changing what it computes, or a provider computes another.
        InputError: the baseline is another model's, another run has other labels, a shape is too long, or rows cannot
            be read.
        MeasurementError: the measuring process died.
        OutputError: the report cannot be written to `options.out`.
        RunFolderError: a run folder cannot be used.
        UnsupportedError: the provider is missing or does not start.
    """
    from finegates_export.sources.run_folder import places_of_run

    runs = [place for one in (options.ckpt, options.baseline, *options.against) if one for place in places_of_run(one)]
    reads = (*runs, options.base, options.eval_data)
    check_destination(options.out, overwrite=options.overwrite, marks=(REPORT_JSON,), reads=reads)
    _check_inputs(options)  # before what takes seconds to import
    sweep = _Sweep(options, say or _silent)
    with scratch_folder(options.out) as scratch:
        exported = list(sweep.export(scratch))
        times = {shape: sweep.time(exported, shape, scratch) for shape in options.parsed_shapes()}
        models = tuple(sweep.results(exported, times))
    return sweep.report(models)


def _check_inputs(options: BenchOptions) -> None:
    """Fail before any work if a run, its base or the evaluation rows are not there."""
    check_run_place(options.ckpt, options.base)
    for folder in (options.baseline, *options.against):
        if folder is not None:
            read_info(folder)
    if options.eval_data:
        local_files(options.eval_data)


class _Sweep:
    """One measurement: all input is read and checked before the first export."""

    def __init__(self, options: BenchOptions, say: Say) -> None:
        from finegates_bench.measuring.quality import evaluation_rows
        from finegates_export.sources.assemble import base_of
        from finegates_export.sources.shared_base import SharedBase

        self.options, self.say = options, say
        chosen_providers(options.provider)
        self.run: Run = read_run(options.ckpt)
        if options.provider != "cpu" and task_of(self.run.info.task).generates:
            raise UnsupportedError(
                f"provider: {self.run.folder} generates text, and language models are measured only with --provider cpu"
            )
        self.levels = own_levels(self.run)
        self.baseline = unpruned_of(self.run, options.baseline) if options.baseline else None
        self.others = other_runs(self.run, options.against)
        self.base: BaseModel = SharedBase.of(base_of(self.run, options.base))
        self.bases = {one.id: self._base_of(one.run) for one in self.others}
        self.rows: EvaluationRows = evaluation_rows(self.run, _input_names(self.base), options.eval_data)
        self.other_rows = {
            one.id: evaluation_rows(self.run, _input_names(self.bases[one.id]), options.eval_data, one.run)
            for one in self.others
        }
        for base in (self.base, *self.bases.values()):
            _check_lengths(options.parsed_shapes(), base)
        self.vocab_size = min(_vocab_size(base) for base in (self.base, *self.bases.values()))
        self.stamp: Stamp = make_stamp(options.threads, provider=options.provider)

    def export(self, scratch: Path) -> Iterator[Exported]:
        """The graphs of all models, unpruned first, then by removed share."""
        unpruned, *pruned = self._candidates(scratch)
        pruned.sort(key=lambda candidate: candidate.run.info.removed)
        for candidate in (unpruned, *pruned, *self.others):
            self.say(f"exporting {candidate.id}")
            base = self.bases.get(candidate.id, self.base)
            yield from export_candidate(candidate, base, self.options, scratch / candidate.id)

    def time(self, exported: list[Exported], shape: Shape, scratch: Path) -> list[Rounds]:
        """The rounds of all models at one shape, by process."""
        spec = ModelSpec(
            graphs={model.id: str(model.graph) for model in exported},
            batch=shape.batch,
            sequence=shape.sequence,
            vocab_size=self.vocab_size,
            threads=self.options.threads,
            seed=self.options.seed,
            budget=self.options.budget(),
            provider=self.options.provider,
        )
        self.say(f"timing {len(exported)} models at {shape}")
        return time_in_processes(spec, scratch, self.options.processes)

    def results(self, exported: list[Exported], times: dict[Shape, list[Rounds]]) -> Iterator[ModelResult]:
        """One line of the report per model."""
        from finegates_bench.measuring.quality import metric_of

        if self.rows.examples is not None:
            self.say(f"computing {self.run.info.metric} on {len(self.rows.examples)} rows")
        for model in exported:
            rows = self.other_rows.get(model.candidate.id, self.rows)
            metric, source = metric_of(model, rows, self.run, self.options.threads, self.options.provider)
            timings = tuple(self._timing(model, exported[0], shape, times[shape]) for shape in times)
            yield model.result(metric, source, timings, self._difference(model))

    def report(self, models: tuple[ModelResult, ...]) -> BenchReport:
        """The whole report."""
        info = self.run.info
        return BenchReport(
            stamp=self.stamp,
            base=info.base_name,
            family=info.family,
            task=info.task,
            metric_name=info.metric,
            eval_rows=self.rows.words,
            unpruned=(
                "trained without gates, LoRA merged, exported and fused the same way"
                if self.baseline
                else "the base with all gates open, untrained"
            ),
            notes=tuple(self._notes(models)),
            options=self.options.to_json(),
            models=models,
        )

    def _difference(self, model: Exported) -> float | None:
        """The difference from the CPU's outputs, if another provider ran."""
        if self.options.provider == "cpu":
            return None
        from finegates_bench.measuring.devices import check_difference, difference_from_processor
        from finegates_export.verification.batches import inputs_for

        base = self.bases.get(model.candidate.id, self.base)
        batches = inputs_for(model.candidate.run, base.family(), base.config(), self.options.seed)
        found = difference_from_processor(model.graph, batches, self.options.threads, self.options.provider)
        if model.precision != "int8":
            check_difference(model.id, found, self.options.provider)
        return found

    def _base_of(self, run: Run) -> BaseModel:
        """Another run's base, which may equal this run's."""
        from finegates_export.sources.assemble import check_base
        from finegates_export.sources.shared_base import SharedBase

        info = run.info
        if info.base_tensors == self.run.info.base_tensors:
            return self.base
        try:
            base = SharedBase.find(info.base_id, info.base_revision)
        except InputError as error:
            raise InputError(
                f"against {run.folder}: {error}. It was trained on {info.base_id}: put that back; --base says "
                "where the base of --ckpt is"
            ) from error
        check_base(run, base)
        return base

    def _candidates(self, scratch: Path) -> list[Candidate]:
        from finegates_bench.measuring.what_if import WhatIf
        from finegates_export.graphs.targets import TARGETS

        shares = [share for share in self.options.what_if if share or self.baseline]
        if self.baseline and not shares:
            return [self.baseline, *self.levels]
        what_if = WhatIf(self.run, self.base, TARGETS[self.options.target].WIDTHS)
        unpruned = self.baseline or what_if.write(0.0, scratch / "run-unpruned", kind="unpruned")
        closed = [what_if.write(share, scratch / f"run-what-if-{share:g}") for share in shares]
        return [unpruned, *self.levels, *closed]

    def _timing(self, model: Exported, unpruned: Exported, shape: Shape, times: list[Rounds]) -> Timing:
        own, reference = ([rounds[name] for rounds in times] for name in (model.id, unpruned.id))
        summary = summarize(own, reference, self.options.seed)
        return make_timing(summary, model.export.plan, shape)

    def _notes(self, models: tuple[ModelResult, ...]) -> Iterator[str]:
        if self.baseline:
            yield from baseline_notes(self.run, self.baseline.run)
        else:
            yield NO_BASELINE
        yield from other_notes(self.run, self.others)
        if self.rows.examples is None:
            yield f"Metrics are {self.rows.words}."
        if any(model.kind == "what-if" for model in models):
            yield (
                "What-if levels are closed by weight magnitude without training: latency only, their metric is null, "
                "they enter no goal."
            )
        differences = [model.difference for model in models if model.difference is not None]
        if differences:
            yield (
                f"Outputs on the {self.options.provider} provider differ from the processor's on the same graph by "
                f"{max(differences):.1e} of their scale at most."
            )
        for model in models:
            if model.kind == "what-if" and abs(model.removed - (model.asked or 0.0)) > SHARE_TOLERANCE:
                yield f"{model.label} landed at {model.removed:.1%}: the model's widths are too coarse for that share."
            if model.left_in_float:
                count = len(model.left_in_float)
                yield f"{model.label} keeps {count} of its linears in float32, else the chain did not hold."
        if self.stamp.cores < self.stamp.threads:
            yield f"{self.stamp.threads} threads a model were asked for on {self.stamp.cores} available cores."


def _input_names(base: BaseModel) -> tuple[str, ...]:
    return base.family().input_names(base.config())


def _vocab_size(base: BaseModel) -> int:
    return getattr(base.config(), "vocab_size", 0)


def _check_lengths(shapes: tuple[Shape, ...], base: BaseModel) -> None:
    longest, images = base.family().max_length(base.config()), _input_names(base) == (PIXELS,)
    for shape in shapes:
        if images and shape.sequence != longest:
            raise InputError(
                f"shape {shape} does not have the length of an image ({longest} tokens, patches and what stands "
                f"before them); give --shapes {shape.batch}x{longest}"
            )
        if shape.sequence > longest:
            raise InputError(f"shape {shape} is longer than the model allows ({longest} tokens); choose other --shapes")


def _silent(_line: str) -> None:
    """Ignore progress."""
