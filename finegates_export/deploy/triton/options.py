"""Everything `finegates-export triton` can be told, checked when it is made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finegates_export.common.graph_forms import GRAPH_FILES, Form
from finegates_export.common.options import Options, as_path, check

Device = Literal["cpu", "cuda", "tensorrt"]
DEVICES = ("auto", "cpu", "cuda", "tensorrt")


@dataclass(frozen=True, kw_only=True)
class TritonOptions(Options):
    """Options of one model repository."""

    bundle: Path
    """The bundle that is to be served."""
    out: Path
    """The folder of the repository."""
    name: str = ""
    """What requests call the model; default: its task. The models that it is made of are called after it."""
    form: Literal["float", "int8", "int4"] = "float"
    """Which of the bundle's graphs."""
    device: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto"
    """What runs the graph: the processor, onnxruntime's CUDA provider, or TensorRT inside onnxruntime. `auto`: what the
    bundle was exported for."""
    max_batch: int = 64
    """Rows a call of the model at most."""
    preferred_batches: tuple[int, ...] = (8, 32)
    """Rows at which a call that waits for more is started at once."""
    queue_delay: int = 500
    """Microseconds that a call waits for more rows at most."""
    instances: int = 1
    """Copies of the model that run side by side, on each GPU or on the processor."""
    threads: int | None = None
    """Processor threads of a copy; default: onnxruntime's choice."""
    warm_up: bool = True
    """Run every model once before the server says that it is ready."""
    overwrite: bool = False
    """Replace what is at --out."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "bundle", as_path(self.bundle))
        object.__setattr__(self, "out", as_path(self.out))
        object.__setattr__(self, "preferred_batches", tuple(self.preferred_batches))
        named = re.fullmatch(r"([A-Za-z0-9_-][A-Za-z0-9_.-]*)?", self.name) is not None
        told = f"{self.name!r} may hold letters, digits, dots, dashes and underscores alone, and begins with no dot"
        check(named, "name", told)
        check(self.form in GRAPH_FILES, "form", f"{self.form!r} is not one of {', '.join(GRAPH_FILES)}")
        check(self.device in DEVICES, "device", f"{self.device!r} is not one of {', '.join(DEVICES)}")
        for name in ("max_batch", "instances"):
            value = getattr(self, name)
            check(value > 0, name.replace("_", "-"), f"must be positive, got {value}")
        check(self.threads is None or self.threads > 0, "threads", f"must be positive, got {self.threads}")
        check(self.queue_delay >= 0, "queue-delay", f"must not be negative, got {self.queue_delay}")
        fitting = all(0 < size <= self.max_batch for size in self.preferred_batches)
        told = f"must lie in 1 to {self.max_batch}, got {', '.join(map(str, self.preferred_batches))}"
        check(fitting, "preferred-batches", told)

    @property
    def graph_file(self) -> str:
        """How the wanted form's file is called."""
        form: Form = self.form
        return GRAPH_FILES[form]
