"""The options of `finegates-export triton`, checked when they are made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from finegates_export.common.graph_forms import GRAPH_FILES
from finegates_export.common.options import Groups, Options, as_path, check

Device = Literal["cpu", "cuda", "tensorrt"]
DEVICES = ("auto", "cpu", "cuda", "tensorrt")


@dataclass(frozen=True, kw_only=True)
class TritonOptions(Options):
    """Options of one model repository."""

    groups: ClassVar[Groups] = {
        "Everyday": (
            "bundle",
            "out",
            "name",
            "overwrite",
        ),
        "Model": (
            "form",
            "device",
            "instances",
            "threads",
            "warm_up",
        ),
        "Batches": (
            "max_batch",
            "preferred_batches",
            "queue_delay",
        ),
    }

    bundle: Path
    """The bundle to serve."""
    out: Path
    """The folder for the repository."""
    name: str = ""
    """The model's name in requests; default: its task. Its component models are named after it."""
    form: Literal["float", "int8", "int4"] = "float"
    """Which of the bundle's graphs to serve."""
    device: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto"
    """What runs the graph: the CPU, onnxruntime's CUDA provider, or TensorRT inside onnxruntime. `auto` is what the
    bundle was exported for."""
    max_batch: int = 64
    """Most rows per call of the model."""
    preferred_batches: tuple[int, ...] = (8, 32)
    """Row counts at which a waiting call starts at once."""
    queue_delay: int = 500
    """Most microseconds that a call waits for more rows."""
    instances: int = 1
    """Copies of the model that run in parallel, on each GPU or on the CPU."""
    threads: int | None = None
    """CPU threads per copy; default: onnxruntime's choice."""
    warm_up: bool = True
    """Run every model once before the server reports that it is ready."""
    overwrite: bool = False
    """Replace what is at --out."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "bundle", as_path(self.bundle))
        object.__setattr__(self, "out", as_path(self.out))
        object.__setattr__(self, "preferred_batches", tuple(self.preferred_batches))
        named = re.fullmatch(r"([A-Za-z0-9_-][A-Za-z0-9_.-]*)?", self.name) is not None
        message = f"{self.name!r} may contain only letters, digits, dots, dashes and underscores, and no leading dot"
        check(named, "name", message)
        check(self.form in GRAPH_FILES, "form", f"{self.form!r} is not one of {', '.join(GRAPH_FILES)}")
        check(self.device in DEVICES, "device", f"{self.device!r} is not one of {', '.join(DEVICES)}")
        for name in ("max_batch", "instances"):
            value = getattr(self, name)
            check(value > 0, name.replace("_", "-"), f"must be positive, got {value}")
        check(self.threads is None or self.threads > 0, "threads", f"must be positive, got {self.threads}")
        check(self.queue_delay >= 0, "queue-delay", f"must not be negative, got {self.queue_delay}")
        fitting = all(0 < size <= self.max_batch for size in self.preferred_batches)
        message = f"must lie in 1 to {self.max_batch}, got {', '.join(map(str, self.preferred_batches))}"
        check(fitting, "preferred-batches", message)
