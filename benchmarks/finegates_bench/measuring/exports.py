"""From run folders to ONNX files, through the library's own `export`: planned, fused and proven like any other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_bench.measuring.export_facts import ExportFacts
from finegates_bench.measuring.levels import Candidate
from finegates_bench.measuring.options import BenchOptions
from finegates_bench.measuring.results import MetricSource, ModelResult, Precision, Timing
from finegates_export.pipeline.report import ExportReport

if TYPE_CHECKING:
    from finegates_export.sources.base import BaseModel

ANY_AGREEMENT = 0.0
ANY_METRIC_LOSS = 200.0
"""Points: a correlation can fall from 1 to -1."""


@dataclass(frozen=True)
class Exported:
    """One graph, ready to be measured."""

    candidate: Candidate
    precision: Precision
    graph: Path
    export: ExportReport

    @property
    def id(self) -> str:
        """The name under which it is timed."""
        return f"{self.candidate.id}-int8" if self.precision == "int8" else self.candidate.id

    def result(
        self,
        metric: float | None,
        source: MetricSource | None,
        timings: tuple[Timing, ...],
        difference: float | None = None,
    ) -> ModelResult:
        """Its line of the report."""
        plan, after = self.export.plan, self.export.after or self.export.before
        return ModelResult(
            id=self.id,
            kind=self.candidate.kind,
            precision=self.precision,
            trained=self.candidate.trained,
            removed=plan.removed,
            asked=self.candidate.asked,
            kept_weights=plan.kept_weights,
            padding_weights=plan.padding_weights,
            parameters=after.parameters,
            file_bytes=self.graph.stat().st_size,
            metric=metric,
            metric_source=source,
            left_in_float=self._left_in_float(),
            export=ExportFacts.of(self.export, quantized=self.precision == "int8"),
            timings=timings,
            difference=difference,
            name=self.candidate.name,
        )

    def _left_in_float(self) -> tuple[str, ...]:
        form = self.export.quantized if self.precision == "int8" else None
        return tuple(left.linear for left in form.left_in_float) if form else ()


def export_candidate(candidate: Candidate, base: BaseModel, options: BenchOptions, folder: Path) -> Iterator[Exported]:
    """Export one run: its graph in the target's floats and, if asked, its int8 graph.

    Args:
        candidate: the run.
        base: its base.
        options: target, int8 or not, tolerances, threads, seed.
        folder: where the bundle goes.

    Raises:
        ChainError: a step changed what the model computes.
        FusionError: the target's fusions found less than the family promises.
    """
    from finegates_export.common.graph_forms import GRAPH_FILES
    from finegates_export.graphs.targets import TARGETS
    from finegates_export.pipeline.export import export
    from finegates_export.pipeline.options import ExportOptions

    report = export(
        ExportOptions(
            ckpt=candidate.run.folder,
            out=folder,
            target=options.target,
            quantize=(options.int8 and options.integers) or "none",
            # Whatever the shapes that are measured: the exporter would decide at one of them.
            int8_linears="all",
            # Where nothing was trained there are no predictions to keep.
            min_agreement=options.min_agreement if candidate.trained else ANY_AGREEMENT,
            max_metric_loss=options.max_metric_loss if candidate.trained else ANY_METRIC_LOSS,
            seed=options.seed,
            threads=options.threads,
        ),
        base,
    )
    yield Exported(candidate, TARGETS[options.target].FLOAT, folder / GRAPH_FILES["float"], report)
    if options.int8:
        yield Exported(candidate, "int8", folder / GRAPH_FILES["int8"], report)
