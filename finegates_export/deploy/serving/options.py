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

COUNTS = ("replicas", "threads", "batch", "rows", "max_body", "max_texts", "max_characters", "queue", "connections")
SECONDS = ("timeout", "header_timeout", "body_timeout", "drain")
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
HIGHEST_PORT = 65535
AUTO = "auto"
"""The cluster that this machine belongs to."""


@dataclass(frozen=True)
class ServeOptions(Options):
    """Options of one server."""

    groups: ClassVar[Groups] = {
        "Everyday": (
            "bundles",
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
            "watch",
        ),
        "Security": (
            "api_key_file",
            "tls_cert",
            "tls_key",
            "access_log",
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
            "header_timeout",
            "body_timeout",
            "connections",
            "drain",
        ),
    }

    bundles: tuple[Path, ...]
    """One bundle or several; with --address one, which every node needs under this path."""
    name: tuple[str, ...] = ()
    """The models' names in requests, one for each bundle; default: their tasks."""
    form: Literal["float", "int8", "int4"] = "float"
    """Which of the bundle's graphs to serve."""
    provider: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    """The onnxruntime provider that runs it."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 listens on every network interface."""
    port: int = 8000
    """Port to listen on; 0 picks a free one and prints it."""
    address: str = ""
    """Put the copies on a Ray cluster, HOST:PORT or auto; default: on this machine, without Ray."""
    replicas: int = 1
    """Copies of each model; a single one lives in the server's process, several in a process each."""
    max_replicas: int = 0
    """Most copies under load; default: --replicas, a fixed number."""
    watch: bool = False
    """Replace a bundle as soon as its bundle.json changes; without it, on SIGHUP."""
    api_key_file: Path | None = None
    """A file with one key a line; requests then need `Authorization: Bearer KEY`."""
    tls_cert: Path | None = None
    """A certificate chain as PEM, to serve over HTTPS."""
    tls_key: Path | None = None
    """Its private key as PEM."""
    access_log: bool = False
    """Write a line of JSON for every request to stderr."""
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
    """Seconds after which an unanswered request fails, counted from the end of its body."""
    header_timeout: float = 5.0
    """Seconds for a request's header to arrive, and for the handshake of HTTPS."""
    body_timeout: float = 30.0
    """Seconds for a request's body to arrive."""
    connections: int = 1000
    """Most connections; for another one, the oldest whose request is not whole is closed."""
    drain: float = 30.0
    """Seconds that a stopping server may spend on answering the requests it has."""

    def __post_init__(self) -> None:
        given = (self.bundles,) if isinstance(self.bundles, (str, Path)) else self.bundles
        object.__setattr__(self, "bundles", tuple(map(as_path, given)))
        object.__setattr__(self, "name", (self.name,) if isinstance(self.name, str) else tuple(self.name))
        for file in ("api_key_file", "tls_cert", "tls_key"):
            value = getattr(self, file)
            object.__setattr__(self, file, None if value is None else as_path(value))
        self._check_models()
        self._check_numbers()

    def _check_models(self) -> None:
        check(bool(self.bundles), "bundles", "give at least one bundle")
        written = self.address in ("", AUTO) or re.fullmatch(r".+:\d{1,5}", self.address) is not None
        check(written, "address", f"{self.address!r} is not HOST:PORT or {AUTO}")
        alone = not self.address or (len(self.bundles) == 1 and not self.watch)
        check(alone, "address", "a cluster serves one bundle, without --watch; start a server for each")
        message = "may contain only letters, digits, dots, dashes and underscores, and no leading dot"
        for name in self.name:
            check(NAME.fullmatch(name) is not None, "name", f"{name!r} {message}")
        counted = len(self.name) in (0, len(self.bundles)) and len(set(self.name)) == len(self.name)
        told = f"{len(self.bundles)} bundles need as many different names, got {', '.join(self.name)}"
        check(counted, "name", told)
        whole = (self.tls_cert is None) == (self.tls_key is None)
        check(whole, "tls-cert", "a certificate and its key go together; give --tls-cert and --tls-key")
        check(self.form in GRAPH_FILES, "form", f"{self.form!r} is not one of {', '.join(GRAPH_FILES)}")
        check(self.provider in PROVIDERS, "provider", f"{self.provider!r} is not one of {', '.join(PROVIDERS)}")

    def _check_numbers(self) -> None:
        check(0 <= self.port <= HIGHEST_PORT, "port", f"must lie in 0 to {HIGHEST_PORT}, got {self.port}")
        for field in COUNTS:
            value = getattr(self, field)
            check(value > 0, field.replace("_", "-"), f"must be positive, got {value}")
        for field in SECONDS:
            value = getattr(self, field)
            check(value > 0, field.replace("_", "-"), f"must be positive, got {value}")
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
