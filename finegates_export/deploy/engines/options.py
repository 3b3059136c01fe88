"""Everything `finegates-engine` can be told, checked when it is made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finegates_export.common.options import Options, as_path, check
from finegates_export.common.shapes import Shape


@dataclass(frozen=True)
class EngineOptions(Options):
    """Options of one build."""

    model: Path
    """A bundle, or an ONNX file, exported with --target tensorrt."""
    out: Path
    """The folder of the engines."""
    builder: Literal["auto", "tensorrt", "tensorrt-rtx"] = "auto"
    """Which package builds; `auto`: tensorrt where it is installed, else tensorrt-rtx."""
    compute_capability: tuple[str, ...] = ()
    """GPUs to build for, as in sm80,sm89: an engine each, made without a GPU (tensorrt-rtx). Default: one engine, for
    the GPU of this machine (tensorrt) or for all that tensorrt-rtx supports."""
    smallest: str = ""
    """Smallest input, BATCHxSEQUENCE; default: the bundle's, else 1x1."""
    usual: str = ""
    """The input that kernels are chosen for; default: the bundle's, else 8x128."""
    largest: str = ""
    """Largest input; default: the bundle's, else 64x512."""
    quantized: bool = False
    """Take the bundle's int8 graph."""
    level: int = 3
    """How long the builder searches for faster kernels, 0 to 5."""
    workspace: int = 0
    """MiB of GPU memory that kernels may work in; 0: the builder's choice."""
    timing_cache: Path | None = None
    """What kernels took in earlier builds, read and written (tensorrt)."""
    overwrite: bool = False
    """Replace what is at --out."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", as_path(self.model))
        object.__setattr__(self, "out", as_path(self.out))
        object.__setattr__(self, "timing_cache", as_path(self.timing_cache) if self.timing_cache else None)
        object.__setattr__(self, "compute_capability", tuple(name.lower() for name in self.compute_capability))
        for name in self.compute_capability:
            known = re.fullmatch(r"sm\d{2,3}", name) is not None
            check(known, "compute-capability", f"{name!r} is not a GPU's; write sm80 for 8.0")
        check(0 <= self.level <= 5, "level", f"must lie in 0 to 5, got {self.level}")
        check(self.workspace >= 0, "workspace", f"must not be negative, got {self.workspace}")
        for field in ("smallest", "usual", "largest"):
            try:
                _ = getattr(self, field) and Shape.parse(getattr(self, field))
            except ValueError as error:
                raise ValueError(f"{field}: {error}") from error
