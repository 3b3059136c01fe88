"""Everything `finegates-bench` can be told, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finegates_export.common.options import Options, as_path, check
from finegates_export.common.shapes import Shape
from finegates_export.costs.timing.timer import Budget
from finegates_export.graphs.targets import TARGETS
from finegates_export.runtime.session import PROVIDERS


@dataclass(frozen=True, kw_only=True)
class BenchOptions(Options):
    """Options of one measurement."""

    ckpt: Path
    """The run folder; every level in it is measured."""
    out: Path
    """The folder of the report."""
    baseline: Path | None = None
    """A run with layout none: the unpruned model. Default: the run's base, untrained, with all gates open."""
    against: tuple[Path, ...] = ()
    """Other runs for the same labels, measured along, on whatever base: a smaller pretrained model, for one."""
    base: str | None = None
    """Where the base model is now, if not where the run was trained."""
    what_if: tuple[float, ...] = ()
    """Removed shares to measure as well, closed by weight magnitude without training: latency only."""
    target: Literal["ort-cpu", "portable", "ort-cuda", "tensorrt"] = "ort-cpu"
    """What the models are exported for."""
    provider: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    """What runs them; on another one than the processor, outputs are compared with the processor's."""
    int8: bool = False
    """Measure every model's int8 form too."""
    eval_data: str | None = None
    """Rows for the metric; default: the run's own evaluation rows."""

    shapes: tuple[str, ...] = ("1x32", "1x128", "8x128", "16x64")
    """Input shapes, BATCHxSEQUENCE."""
    rounds: int = 30
    """Rounds per shape, at least; each runs every model once."""
    seconds: float = 10.0
    """Seconds per shape, at least."""
    warmup: int = 5
    """Rounds of a process before the first that counts."""
    processes: int = 6
    """Fresh processes per shape that share rounds and seconds: a process keeps what it happens to be given."""

    min_agreement: float = 0.99
    """Share of equal predictions that an int8 form of a trained model must keep."""
    max_metric_loss: float = 1.0
    """Points of the metric that an int8 form of a trained model may lose."""
    overwrite: bool = False
    """Replace what is at --out."""
    seed: int = 0
    """Of the token ids, the order within rounds, and the bootstrap."""
    threads: int = 2
    """Processor threads of every model."""

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
        told_apart = len({f"{share:g}" for share in self.what_if}) == len(self.what_if)
        check(told_apart, "what-if", f"names a share twice: {self.what_if}")
        check(bool(self.shapes), "shapes", "names no shape; write BATCHxSEQUENCE, as in 8x128")
        try:
            parsed = self.parsed_shapes()
        except ValueError as error:
            raise ValueError(f"shapes: {error}") from error
        check(len(set(parsed)) == len(parsed), "shapes", f"names a shape twice: {','.join(self.shapes)}")
        check(self.target in TARGETS, "target", f"{self.target!r} is not one of {', '.join(TARGETS)}")
        check(self.provider in PROVIDERS, "provider", f"{self.provider!r} is not one of {', '.join(PROVIDERS)}")
        quantized = not self.int8 or self.integers is not None
        check(quantized, "int8", f"target {self.target} runs no int8 graph; leave --int8 away")
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
        """How long each shape is measured."""
        return Budget(self.rounds, self.seconds, self.warmup)
