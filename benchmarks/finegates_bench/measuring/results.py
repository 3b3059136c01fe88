"""The results of a measurement, to JSON and back: every number of a report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from finegates_bench.measuring.export_facts import ExportFacts
from finegates_export.errors import InputError

SCHEMA_VERSION = 2
REPORT_JSON = "report.json"

Kind = Literal["unpruned", "level", "what-if", "other"]
"""The unpruned model, a trained level, one closed without training, or another run's on any base."""
Precision = Literal["float32", "float16", "int8"]
MetricSource = Literal["graph", "training"]
"""Whether the metric was computed on the exported graph, or recorded in training."""


@dataclass(frozen=True)
class Timing:
    """One model at one input shape."""

    shape: str
    """Batch x sequence."""
    rounds: int
    p50_ms: float
    p95_ms: float
    rows_per_second: float
    """Batch divided by the median."""
    ratio: float
    """Median divided by the unpruned model's."""
    ratio_low: float
    """Lower end of the ratio's bootstrap 95 % interval."""
    ratio_high: float
    kept_flops: float
    """Kept share of the unpruned layers' floating-point operations at this shape."""
    gflop_per_second: float
    """The kept operations (10^9) divided by the median."""

    @property
    def ratio_over_kept_flops(self) -> float | None:
        """1 if time fell as much as work; None if no work is left in the layers."""
        return self.ratio / self.kept_flops if self.kept_flops else None


@dataclass(frozen=True)
class ModelResult:
    """One exported model."""

    id: str
    kind: Kind
    precision: Precision
    trained: bool
    """False for an untrained base, with gates closed or open: the metric is null and goals ignore it."""
    removed: float
    """Removed share of the layers' linear weights; padding counts as kept."""
    asked: float | None
    """The requested share of a what-if level."""
    kept_weights: int
    """Elements of the layers' linear weights."""
    padding_weights: int
    """Dead elements, kept so that widths fit."""
    parameters: int
    """Parameters of the whole graph, including embeddings and head."""
    file_bytes: int
    metric: float | None
    metric_source: MetricSource | None
    left_in_float: tuple[str, ...]
    """Linears that int8 kept in float because the chain failed with them."""
    export: ExportFacts
    """How it was made."""
    timings: tuple[Timing, ...]
    difference: float | None = None
    """Largest difference of outputs from the CPU's, relative to their scale; None on the CPU."""
    name: str = ""
    """Base name of another run's model; empty for the run's own base."""

    @property
    def label(self) -> str:
        """Its name in tables and plots."""
        if self.kind == "unpruned":
            name = "unpruned"
        elif self.kind == "what-if":
            name = f"what-if {100 * (self.asked or 0.0):g}%"
        elif self.kind == "other":
            name = f"{self.name}, {self.removed:.0%} removed" if self.removed else self.name
        else:
            name = f"{self.removed:.0%} removed"
        return f"{name}, int8" if self.precision == "int8" else name

    def timing(self, shape: str) -> Timing:
        """Its timing at one of the report's shapes."""
        return next(timing for timing in self.timings if timing.shape == shape)


@dataclass(frozen=True)
class Stamp:
    """Machine, time and versions, stamped on every file of the report."""

    command: str
    date: str
    """UTC, ISO 8601."""
    processor: str
    cores: int
    """CPUs available to the measuring process."""
    system: str
    threads: int
    """Per model."""
    versions: dict[str, str]
    provider: str = "cpu"
    """The provider that ran the models."""
    accelerator: str = ""
    """The GPU's name; empty on the CPU."""

    @property
    def place(self) -> str:
        """Where the models ran, in words."""
        if self.provider == "cpu":
            return f"on the CPU, {self.threads} threads"
        return f"with the {self.provider} provider on {self.accelerator or 'a GPU'}"

    def lines(self) -> Iterator[tuple[str, str]]:
        """Names and values, as printed in every file."""
        yield "command", self.command
        yield "date", self.date
        yield "processor", f"{self.processor}, {self.cores} cores available"
        if self.accelerator:
            yield "accelerator", self.accelerator
        yield "threads", f"{self.threads} per model"
        yield "system", self.system
        yield "versions", ", ".join(f"{name} {version}" for name, version in self.versions.items())


@dataclass(frozen=True)
class BenchReport:
    """A whole measurement: models, timings, notes; `report_markdown.summary` is what the command prints."""

    stamp: Stamp
    base: str
    family: str
    task: str
    metric_name: str
    eval_rows: str
    """The rows of the metric, in words."""
    unpruned: str
    """The unpruned model, in words."""
    notes: tuple[str, ...]
    """Caveats for quoting numbers."""
    options: dict[str, Any]
    models: tuple[ModelResult, ...]
    """The unpruned model first, then the run's by removed share, then other runs'; floats before int8."""
    schema_version: int = SCHEMA_VERSION

    @property
    def shapes(self) -> tuple[str, ...]:
        """The measured shapes, in order."""
        return tuple(timing.shape for timing in self.models[0].timings)

    @property
    def target(self) -> str:
        """What the models were exported for."""
        return self.models[0].export.target

    @property
    def processes_told(self) -> str:
        """Number of processes per shape, in words; earlier versions used one."""
        count = int(self.options.get("processes", 1))
        return "a fresh process" if count == 1 else f"{count} fresh processes, one after the other,"

    @property
    def of_one_base(self) -> tuple[ModelResult, ...]:
        """The models with comparable removed shares: all but other runs'."""
        return tuple(model for model in self.models if model.kind != "other")

    @property
    def has_metric(self) -> bool:
        """Whether any model has a metric."""
        return any(model.metric is not None for model in self.models)

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON types; including the quotient of ratio and kept FLOPs."""
        values = {"schema_version": self.schema_version, **asdict(self)}
        values["notes"] = list(self.notes)
        values["models"] = [_model_json(model) for model in self.models]
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> BenchReport:
        """Rebuild from `to_json`.

        Raises:
            InputError: something is missing, invalid, or of another schema version.
        """
        if not isinstance(values, dict) or not {"schema_version", "stamp", "models"} <= values.keys():
            raise InputError("not a benchmark report")
        if not values["models"]:
            raise InputError("a benchmark report without models")
        if values["schema_version"] != SCHEMA_VERSION:
            raise InputError(
                f"report has schema version {values['schema_version']}, but this version reads {SCHEMA_VERSION}; "
                "measure again with this version"
            )
        try:
            models = tuple(_model(entry) for entry in values["models"])
            changed = {"stamp": Stamp(**values["stamp"]), "notes": tuple(values["notes"]), "models": models}
            return cls(**{**values, **changed})
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(f"not a benchmark report of this version: {error}") from error


def _model_json(model: ModelResult) -> dict[str, Any]:
    values = asdict(model)
    values["label"] = model.label
    values["left_in_float"] = list(model.left_in_float)
    values["export"] = model.export.to_json()
    values["timings"] = [
        {**asdict(timing), "ratio_over_kept_flops": timing.ratio_over_kept_flops} for timing in model.timings
    ]
    return values


def _model(entry: dict[str, Any]) -> ModelResult:
    values = {name: value for name, value in entry.items() if name != "label"}
    values["left_in_float"] = tuple(entry["left_in_float"])
    values["export"] = ExportFacts.from_json(entry["export"])
    values["timings"] = tuple(
        Timing(**{name: value for name, value in timing.items() if name != "ratio_over_kept_flops"})
        for timing in entry["timings"]
    )
    return ModelResult(**values)
