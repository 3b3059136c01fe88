"""The options of `finegates-serve`, checked when they are made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import ClassVar, Literal

from finegates_export.common.graph_forms import GRAPH_FILES
from finegates_export.common.options import Groups, Options, as_path, check
from finegates_export.runtime.session import PROVIDERS

COUNTS = ("replicas", "threads", "batch", "rows", "max_body", "max_texts", "max_characters", "queue")
HIGHEST_PORT = 65535
AUTO = "auto"
"""The cluster that this machine belongs to."""


@dataclass(frozen=True)
class ServeOptions(Options):
    """Options of one server."""

    groups: ClassVar[Groups] = {
        "Everyday": (
            "bundle",
            "name",
            "host",
            "port",
            "replicas",
            "threads",
        ),
        "Model": (
            "form",
            "provider",
        ),
        "Scaling": (
            "address",
            "max_replicas",
        ),
        "Batches": (
            "batch",
            "rows",
            "batch_wait",
        ),
        "Limits": (
            "max_body",
            "max_texts",
            "max_characters",
            "queue",
            "timeout",
            "drain",
        ),
    }

    bundle: Path
    """The bundle; with --address, every node needs it under this path."""
    name: str = ""
    """The model's name in requests; default: its task."""
    form: Literal["float", "int8", "int4"] = "float"
    """Which of the bundle's graphs to serve."""
    provider: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    """The onnxruntime provider that runs it."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 listens on every network interface."""
    port: int = 8000
    """Port to listen on; 0 picks a free one and prints it."""
    address: str = ""
    """A Ray cluster, HOST:PORT or auto; default: start Ray on this machine."""
    replicas: int = 1
    """Copies of the model, each in its own process."""
    max_replicas: int = 0
    """Most copies under load; default: --replicas, a fixed number."""
    threads: int = 1
    """CPU threads per copy."""
    batch: int = 32
    """Most texts sent to a copy together, gathered from any number of requests."""
    rows: int = 8
    """Most texts, of similar length, in one call of the model."""
    batch_wait: float = 0.0
    """Milliseconds to wait for more texts while a copy is idle; while all are busy, texts gather anyway."""
    max_body: int = 1 << 20
    """Most bytes per request."""
    max_texts: int = 256
    """Most texts per request."""
    max_characters: int = 100_000
    """Most characters per text."""
    queue: int = 1024
    """Most texts waiting for a copy; further ones are refused."""
    timeout: float = 30.0
    """Seconds after which an unanswered request fails."""
    drain: float = 30.0
    """Seconds that a stopping server may spend on answering the requests it has."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "bundle", as_path(self.bundle))
        written = self.address in ("", AUTO) or re.fullmatch(r".+:\d{1,5}", self.address) is not None
        check(written, "address", f"{self.address!r} is not HOST:PORT or {AUTO}")
        named = re.fullmatch(r"([A-Za-z0-9_-][A-Za-z0-9_.-]*)?", self.name) is not None
        message = f"{self.name!r} may contain only letters, digits, dots, dashes and underscores, and no leading dot"
        check(named, "name", message)
        check(self.form in GRAPH_FILES, "form", f"{self.form!r} is not one of {', '.join(GRAPH_FILES)}")
        check(self.provider in PROVIDERS, "provider", f"{self.provider!r} is not one of {', '.join(PROVIDERS)}")
        check(0 <= self.port <= HIGHEST_PORT, "port", f"must lie in 0 to {HIGHEST_PORT}, got {self.port}")
        for field in COUNTS:
            value = getattr(self, field)
            check(value > 0, field.replace("_", "-"), f"must be positive, got {value}")
        for field in ("timeout", "drain"):
            check(getattr(self, field) > 0, field, f"must be positive, got {getattr(self, field)}")
        check(self.drain < inf, "drain", "must be finite, got inf; 86400 is a day")
        check(self.batch_wait >= 0, "batch-wait", f"must not be negative, got {self.batch_wait}")
        enough = self.max_replicas == 0 or self.max_replicas >= self.replicas
        check(enough, "max-replicas", f"must be at least --replicas {self.replicas}, got {self.max_replicas}")
        fits = self.queue >= self.max_texts
        check(fits, "queue", f"must hold one request of --max-texts {self.max_texts}, got {self.queue}")

    @property
    def most_replicas(self) -> int:
        """Most copies."""
        return self.max_replicas or self.replicas
