"""The options of `finegates-bench`, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from finegates_export.common.options import Groups, Options, as_path, check
from finegates_export.common.shapes import Shape
from finegates_export.costs.timing.timer import Budget
from finegates_export.graphs.targets import TARGETS
from finegates_export.runtime.session import PROVIDERS


@dataclass(frozen=True, kw_only=True)
class BenchOptions(Options):
    """Options of one measurement."""

    groups: ClassVar[Groups] = {
        "Everyday": (
            "ckpt",
            "out",
            "baseline",
            "shapes",
            "overwrite",
            "threads",
        ),
        "Models": (
            "against",
            "base",
            "what_if",
            "target",
            "provider",
            "int8",
        ),
        "Metric": (
            "eval_data",
            "min_agreement",
            "max_metric_loss",
        ),
        "Timing": (
            "rounds",
            "seconds",
            "warmup",
            "processes",
            "seed",
        ),
    }

    ckpt: Path
    """The run folder; each of its levels is measured."""
    out: Path
    """The folder for the report."""
    baseline: Path | None = None
    """An unpruned run (layout none) to compare with; default: the run's untrained base with all gates open."""
    against: tuple[Path, ...] = ()
    """Other runs with the same labels to measure too, on any base: a smaller pretrained model, for example."""
    base: str | None = None
    """Where the base model is now, if it has moved since training."""
    what_if: tuple[float, ...] = ()
    """Removed shares to measure as well, latency only: closed by weight magnitude, without training."""
    target: Literal["ort-cpu", "portable", "ort-cuda", "tensorrt"] = "ort-cpu"
    """What the models are exported for."""
    provider: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    """The onnxruntime provider; outputs on a GPU are compared with the CPU's."""
    int8: bool = False
    """Measure the int8 form of each model too."""
    eval_data: str | None = None
    """Rows for the metric; default: the run's own evaluation rows."""

    shapes: tuple[str, ...] = ("1x32", "1x128", "8x128", "16x64")
    """Input shapes, BATCHxSEQUENCE."""
    rounds: int = 30
    """Least rounds per shape; a round runs every model once."""
    seconds: float = 10.0
    """Least seconds per shape."""
    warmup: int = 5
    """Uncounted rounds at the start of each process."""
    processes: int = 6
    """Fresh processes per shape that share rounds and seconds, since timings differ from process to process."""

    min_agreement: float = 0.99
    """Lowest share of predictions on which an int8 form must agree with its trained model."""
    max_metric_loss: float = 1.0
    """Most metric points that an int8 form of a trained model may lose."""
    overwrite: bool = False
    """Replace what is at --out."""
    seed: int = 0
    """Seed of the token ids, the order within rounds, and the bootstrap."""
    threads: int = 2
    """CPU threads of each model."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ckpt", as_path(self.ckpt))
        object.__setattr__(self, "out", as_path(self.out))
        object.__setattr__(self, "baseline", as_path(self.baseline) if self.baseline else None)
        object.__setattr__(self, "against", tuple(as_path(run) for run in self.against))
        check(
            len(set(self.against)) == len(self.against),
            "against",
            f"names a run twice: {', '.join(map(str, self.against))}",
        )
        check(all(0 <= share < 1 for share in self.what_if), "what-if", f"must lie in [0, 1), got {self.what_if}")
        distinct = len({f"{share:g}" for share in self.what_if}) == len(self.what_if)
        check(distinct, "what-if", f"names a share twice: {self.what_if}")
        check(bool(self.shapes), "shapes", "names no shape; write BATCHxSEQUENCE, as in 8x128")
        try:
            parsed = self.parsed_shapes()
        except ValueError as error:
            raise ValueError(f"shapes: {error}") from error
        check(len(set(parsed)) == len(parsed), "shapes", f"names a shape twice: {','.join(self.shapes)}")
        check(self.target in TARGETS, "target", f"{self.target!r} is not one of {', '.join(TARGETS)}")
        check(self.provider in PROVIDERS, "provider", f"{self.provider!r} is not one of {', '.join(PROVIDERS)}")
        quantized = not self.int8 or self.integers is not None
        check(quantized, "int8", f"--target {self.target} runs no int8 graph; omit --int8")
        check(self.threads > 0, "threads", f"must be positive, got {self.threads}")
        check(0 <= self.min_agreement <= 1, "min-agreement", f"must lie in [0, 1], got {self.min_agreement}")
        check(self.max_metric_loss >= 0, "max-metric-loss", f"must not be negative, got {self.max_metric_loss}")
        check(self.processes > 0, "processes", f"must be positive, got {self.processes}")
        self.budget()

    @property
    def integers(self) -> Literal["int8", "int8-static"] | None:
        """The target's int8 form."""
        offered = TARGETS[self.target].INTEGERS
        return "int8" if "int8" in offered else "int8-static" if "int8-static" in offered else None

    def parsed_shapes(self) -> tuple[Shape, ...]:
        """The shapes, in the order given."""
        return tuple(Shape.parse(shape) for shape in self.shapes)

    def budget(self) -> Budget:
        """How long to measure each shape."""
        return Budget(self.rounds, self.seconds, self.warmup)
