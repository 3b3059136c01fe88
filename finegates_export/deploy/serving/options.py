"""Everything `finegates-serve` can be told, checked when it is made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Literal

from finegates_export.common.graph_forms import GRAPH_FILES
from finegates_export.common.options import Options, as_path, check
from finegates_export.runtime.session import PROVIDERS

COUNTS = ("replicas", "threads", "batch", "rows", "max_body", "max_texts", "max_characters", "queue")
HIGHEST_PORT = 65535
AUTO = "auto"
"""The cluster that this machine is a node of."""


@dataclass(frozen=True)
class ServeOptions(Options):
    """Options of one server."""

    bundle: Path
    """The bundle; with --address a folder of this path on every node."""
    name: str = ""
    """What requests call the model; default: its task."""
    form: Literal["float", "int8", "int4"] = "float"
    """Which of the bundle's graphs."""
    provider: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    """What runs it."""
    host: str = "127.0.0.1"
    """Where requests are listened for; 0.0.0.0: on every network that the machine is in."""
    port: int = 8000
    """The port; 0: any free one, which is then printed."""
    address: str = ""
    """A Ray cluster, HOST:PORT or auto; default: a Ray of the server's own on this machine."""
    replicas: int = 1
    """Copies of the model, each a process."""
    max_replicas: int = 0
    """Copies while there is much to do; default: --replicas, always as many."""
    threads: int = 1
    """Processor threads of a copy."""
    batch: int = 32
    """Texts that are sent to a copy together, whichever requests they came with."""
    rows: int = 8
    """Texts of like length that one call of the model reads at most."""
    batch_wait: float = 0.0
    """Milliseconds that texts wait for company while a copy is idle; while all are busy they gather anyway."""
    max_body: int = 1 << 20
    """Bytes of a request."""
    max_texts: int = 256
    """Texts of a request."""
    max_characters: int = 100_000
    """Characters of a text."""
    queue: int = 1024
    """Texts that wait for a copy at most; what comes on top is sent away."""
    timeout: float = 30.0
    """Seconds until a request that has no answer is given up."""
    drain: float = 30.0
    """Seconds that a server that is told to stop takes to answer what it has."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "bundle", as_path(self.bundle))
        written = self.address in ("", AUTO) or re.fullmatch(r".+:\d{1,5}", self.address) is not None
        check(written, "address", f"{self.address!r} is not HOST:PORT or {AUTO}")
        named = re.fullmatch(r"([A-Za-z0-9_-][A-Za-z0-9_.-]*)?", self.name) is not None
        told = f"{self.name!r} may hold letters, digits, dots, dashes and underscores alone, and begins with no dot"
        check(named, "name", told)
        check(self.form in GRAPH_FILES, "form", f"{self.form!r} is not one of {', '.join(GRAPH_FILES)}")
        check(self.provider in PROVIDERS, "provider", f"{self.provider!r} is not one of {', '.join(PROVIDERS)}")
        check(0 <= self.port <= HIGHEST_PORT, "port", f"must lie in 0 to {HIGHEST_PORT}, got {self.port}")
        for field in COUNTS:
            value = getattr(self, field)
            check(value > 0, field.replace("_", "-"), f"must be positive, got {value}")
        for field in ("timeout", "drain"):
            check(getattr(self, field) > 0, field, f"must be positive, got {getattr(self, field)}")
        check(self.drain < inf, "drain", "must end, got inf; a day has 86400 seconds")
        check(self.batch_wait >= 0, "batch-wait", f"must not be negative, got {self.batch_wait}")
        enough = self.max_replicas == 0 or self.max_replicas >= self.replicas
        check(enough, "max-replicas", f"must be at least --replicas {self.replicas}, got {self.max_replicas}")
        fits = self.queue >= self.max_texts
        check(fits, "queue", f"must hold one request of --max-texts {self.max_texts}, got {self.queue}")

    @property
    def most_replicas(self) -> int:
        """Copies at most."""
        return self.max_replicas or self.replicas
