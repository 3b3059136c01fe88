"""The options of `finegates-engine`, checked when they are made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from finegates_export.common.options import Groups, Options, as_path, check
from finegates_export.common.shapes import Shape


@dataclass(frozen=True)
class EngineOptions(Options):
    """Options of one build."""

    groups: ClassVar[Groups] = {
        "Everyday": (
            "model",
            "out",
            "compute_capability",
            "overwrite",
        ),
        "Input": (
            "smallest",
            "usual",
            "largest",
            "quantized",
        ),
        "Builder": (
            "builder",
            "level",
            "workspace",
            "timing_cache",
        ),
    }

    model: Path
    """A bundle, or an ONNX file, exported with --target tensorrt."""
    out: Path
    """The folder for the engines."""
    builder: Literal["auto", "tensorrt", "tensorrt-rtx"] = "auto"
    """Which package builds; `auto` is tensorrt if it is installed, else tensorrt-rtx."""
    compute_capability: tuple[str, ...] = ()
    """GPUs to build for, as in sm80,sm89: one engine each, built without a GPU (tensorrt-rtx). Default: one engine, for
    this machine's GPU (tensorrt) or for all GPUs that tensorrt-rtx supports."""
    smallest: str = ""
    """Smallest input shape, BATCHxSEQUENCE; default: the bundle's, else 1x1."""
    usual: str = ""
    """Input shape that kernels are tuned for; default: the bundle's, else 8x128."""
    largest: str = ""
    """Largest input shape; default: the bundle's, else 64x512."""
    quantized: bool = False
    """Build from the bundle's int8 graph."""
    level: int = 3
    """Builder effort, 0 to 5: higher searches longer for faster kernels."""
    workspace: int = 0
    """MiB of GPU memory for kernel workspace; 0 is the builder's choice."""
    timing_cache: Path | None = None
    """File of kernel timings from earlier builds, read and updated (tensorrt)."""
    overwrite: bool = False
    """Replace what is at --out."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", as_path(self.model))
        object.__setattr__(self, "out", as_path(self.out))
        object.__setattr__(self, "timing_cache", as_path(self.timing_cache) if self.timing_cache else None)
        object.__setattr__(self, "compute_capability", tuple(name.lower() for name in self.compute_capability))
        for name in self.compute_capability:
            known = re.fullmatch(r"sm\d{2,3}", name) is not None
            check(known, "compute-capability", f"{name!r} is not a compute capability; write sm80 for 8.0")
        check(0 <= self.level <= 5, "level", f"must lie in 0 to 5, got {self.level}")
        check(self.workspace >= 0, "workspace", f"must not be negative, got {self.workspace}")
        for field in ("smallest", "usual", "largest"):
            try:
                _ = getattr(self, field) and Shape.parse(getattr(self, field))
            except ValueError as error:
                raise ValueError(f"{field}: {error}") from error
