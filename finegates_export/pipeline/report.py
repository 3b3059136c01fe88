"""An export's report: sizes before and after, widths per layer, fused nodes, the chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace

from finegates_export.pipeline.openvino_form import OpenVinoForm
from finegates_export.pipeline.quantized_form import QuantizedForm
from finegates_export.pruning.plan import ShrinkPlan
from finegates_export.pruning.slow_linears import FloatLinear
from finegates_export.verification.chain import Chain
from finegates_export.verification.link import Link
from finegates_export.verification.report import chain_table

FLOAT32_BYTES = 4
MIB = 1 << 20


@dataclass(frozen=True)
class ModelSize:
    """A model's number of parameters, embeddings and head included, and their bytes."""

    parameters: int
    size_bytes: int

    @classmethod
    def of_parameters(cls, parameters: int) -> ModelSize:
        """The size of a number of float32 parameters."""
        return cls(parameters, parameters * FLOAT32_BYTES)


@dataclass(frozen=True)
class ExportReport:
    """The outcome of one export; `str(report)` is what the command prints."""

    plan: ShrinkPlan
    target: str
    before: ModelSize
    """The unpruned model."""
    after: ModelSize | None = None
    """The delivered float graph; None if only a plan was asked for."""
    fused: dict[str, int] = field(default_factory=dict)
    slow: tuple[FloatLinear, ...] = ()
    """Linears that stay in float because int8 would slow them down on this machine."""
    quantized: QuantizedForm | None = None
    """None if nothing was quantized."""
    openvino: OpenVinoForm | None = None
    """None for other targets than `openvino`."""
    refused: str = ""
    """Why the quantized form that was asked for is not there; empty if it is, or none was."""
    links: tuple[Link, ...] = ()
    metric: str = ""
    """The run's metric, which links and the quantized form are measured by."""
    rows: int = 0
    """Rows that every link of the chain ran on."""
    real_rows: int = 0
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    """Growth of the peak resident memory since the export began, imports included."""
    genai: str | None = None
    """Why onnxruntime-genai cannot run the graph, empty if it can; None if the task does not generate."""
    vocabulary: tuple[int, int] | None = None
    """Tokens before and after a cut of the vocabulary."""

    def proven(self, chain: Chain, seconds: float, peak_memory_bytes: int) -> ExportReport:
        """The report with the chain's links, and the time and memory used.

        Args:
            chain: the chain so far.
            seconds: time since the export began.
            peak_memory_bytes: see the field.
        """
        return replace(
            self,
            links=tuple(chain.links),
            metric=chain.metric,
            rows=chain.rows,
            real_rows=chain.real_rows,
            seconds=seconds,
            peak_memory_bytes=peak_memory_bytes,
        )

    def to_json(self) -> dict[str, object]:
        """Everything, as JSON types."""
        values = {**asdict(self), "plan": self.plan.to_json()}
        values["links"] = list(values["links"])
        values["vocabulary"] = list(self.vocabulary) if self.vocabulary else None
        return values

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield str(self.plan)
        if self.after is None:
            yield from (f"{left.linear} {left.why}" for left in self.slow)
            return
        yield ""
        yield f"{'':<12}  {'before':>14}  {'after':>14}"
        yield f"{'parameters':<12}  {self.before.parameters:>14,}  {self.after.parameters:>14,}"
        yield f"{'MiB':<12}  {self.before.size_bytes / MIB:>14.1f}  {self.after.size_bytes / MIB:>14.1f}"
        yield f"{'linears':<12}  {self.plan.linear_weights:>14,}  {self.plan.kept_weights:>14,}"
        if self.vocabulary:
            yield f"{'tokens':<12}  {self.vocabulary[0]:>14,}  {self.vocabulary[1]:>14,}"
        yield f"{'removed':<12}  {'':>14}  {self.plan.removed:>14.1%}"
        yield f"{'padding':<12}  {'':>14}  {self.plan.padding_weights:>14,}"
        yield ""
        fused = ", ".join(f"{count} {name}" for name, count in self.fused.items() if count)
        yield f"fused for {self.target}: {fused or 'nothing, it fuses by itself'}"
        if self.quantized is not None:
            yield from self.quantized.lines()
        if self.openvino is not None:
            yield from self.openvino.lines()
        if self.refused:
            yield f"no quantized form: {self.refused}"
        yield ""
        yield f"chain on {self.rows} rows, {self.real_rows} of them real:"
        yield chain_table(list(self.links), self.metric)
        if self.links and (greedy := self.links[-1].greedy) is not None:
            yield f"of the tokens that the gated model wrote, the last form chooses {greedy:.2%}"
        if self.genai:
            yield f"no genai_config.json: {self.genai}"
        yield ""
        yield f"{self.seconds:.1f} s, peak memory grew by {self.peak_memory_bytes / MIB:.0f} MiB"
